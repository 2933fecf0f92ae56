"""The JSON of the audit log."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BeforeValidator, Field

from app.api.schemas.common import Output, PageOut, Paging


def _moment(value: Any) -> Any:
    """pydantic takes a number for the seconds since 1970; a query has no numbers."""
    if isinstance(value, str) and "-" not in value:
        raise ValueError("Give a moment such as 2026-03-31T00:00:00Z.")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]


class ActivityFilters(Paging):
    """The query of the audit log."""

    action: str | None = Field(None, max_length=100, description="Such as `backup.started`; `backup.` is all that begin so.")
    actor: str | None = Field(None, max_length=200, description="A part of a name, an email or an address.")
    subject_type: str | None = Field(None, max_length=50, description="Such as `backup`.")
    subject_id: str | None = Field(None, max_length=50)
    since: Moment | None = Field(None, description="The first moment.")
    until: Moment | None = Field(None, description="The first moment too late.")


class ActivityOut(Output):
    """Who did what to which thing, when and from where."""

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
