"""The JSON of the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field

from app.api.schemas.common import Output, PageOut, Paging


def _moment(value: Any) -> Any:
    """Reject numbers, which pydantic would read as seconds since 1970."""
    if isinstance(value, str) and "-" not in value:
        raise ValueError("Give a moment such as 2026-03-31T00:00:00Z.")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]


class ActivityFilters(Paging):
    """Filters of the audit log."""

    action: str | None = Field(
        None, max_length=100, description="Such as `backup.started`; `backup.` matches all that begin with it."
    )
    actor: str | None = Field(None, max_length=200, description="Part of a name, an email or an IP address.")
    subject_type: str | None = Field(None, max_length=50, description="Such as `backup`.")
    subject_id: str | None = Field(None, max_length=50)
    since: Moment | None = Field(None, description="Start, inclusive.")
    until: Moment | None = Field(None, description="End, exclusive.")


class ActivityOut(Output):
    """Who did what to which subject, when and from where."""

    id: int
    at: datetime
    actor_kind: Literal["admin", "token", "system", "cli"]
    actor_id: str | None
    actor_name: str
    address: str | None
    action: str
    subject_type: str
    subject_id: str | None
    detail: dict[str, Any]


class ActivityPage(PageOut[ActivityOut]):
    """A page of the audit log."""
