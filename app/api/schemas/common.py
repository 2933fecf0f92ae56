"""The JSON that all features share: pages of a list, problems, the progress of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from app.services.inputs import Input
from app.services.paging import LARGEST_PAGE, Page, part_of

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
Item = TypeVar("Item")


class Output(BaseModel):
    """JSON read from an object's attributes."""

    model_config = ConfigDict(from_attributes=True)


class Paging(Input):
    """Which page of a list is wanted. Not strict, since every value in a query is text."""

    model_config = ConfigDict(strict=False)

    page: int = Field(1, ge=1, le=1_000_000, description="Starts at 1.")
    page_size: int = Field(50, ge=1, le=LARGEST_PAGE, description="Items per page.")


class PageOut(BaseModel, Generic[Item]):
    """A page of a list. `total` is the number of items on all pages."""

    items: list[Item]
    page: int
    page_size: int
    total: int

    @classmethod
    def of(cls, found: Page[Any], shown: Callable[[Any], Item]) -> Self:
        """Build the page's JSON from rows; `shown` builds the JSON of one."""
        items = [shown(row) for row in found.items]
        return cls(items=items, page=found.page, page_size=found.page_size, total=found.total)

    @classmethod
    def part_of(cls, rows: list[Any], wanted: Paging, shown: Callable[[Any], Item]) -> Self:
        """Take the wanted page of a list that is short enough to be read whole."""
        return cls.of(part_of(rows, wanted.page, wanted.page_size), shown)


class ProblemOut(BaseModel):
    """Why a request failed (RFC 9457). `detail` is a sentence for people."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    errors: dict[str, str] = Field({}, description="Messages by field.")
    id: str | None = Field(None, description="The id of what blocks the request.")
    blockers: list[str] = Field([], description="What blocks the restore.")
    retry_after: int | None = Field(None, description="Seconds to wait.")


class Located(BaseModel):
    """The header of a response that created something."""

    Location: str = Field(description="The URL of what was created.")


class ProgressOut(Output):
    """The progress of the current phase."""

    percent: float | None
    rate_bytes_per_second: float | None
    seconds_left: float | None
