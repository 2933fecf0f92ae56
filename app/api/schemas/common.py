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
    """Output, read from an object's attributes."""

    model_config = ConfigDict(from_attributes=True)


class Paging(Input):
    """Which part of a list is wanted. In a query everything is text."""

    model_config = ConfigDict(strict=False)

    page: int = Field(1, ge=1, le=1_000_000, description="Counts from 1.")
    page_size: int = Field(50, ge=1, le=LARGEST_PAGE, description="Items on a page.")


class PageOut(BaseModel, Generic[Item]):
    """A page of a list. `total` counts the items of all pages."""

    items: list[Item]
    page: int
    page_size: int
    total: int

    @classmethod
    def of(cls, found: Page[Any], shown: Callable[[Any], Item]) -> Self:
        """Given a page of rows and what makes a row's JSON, return the page's."""
        items = [shown(row) for row in found.items]
        return cls(items=items, page=found.page, page_size=found.page_size, total=found.total)

    @classmethod
    def part_of(cls, rows: list[Any], wanted: Paging, shown: Callable[[Any], Item]) -> Self:
        """Cut the wanted page out of a list that was read whole, since it is never long."""
        return cls.of(part_of(rows, wanted.page, wanted.page_size), shown)


class ProblemOut(BaseModel):
    """Why something was refused (RFC 9457). `detail` is a sentence for a person."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    errors: dict[str, str] = Field({}, description="What is wrong, by field.")
    id: str | None = Field(None, description="What stands in the way.")
    blockers: list[str] = Field([], description="What stands in a restore's way.")
    retry_after: int | None = Field(None, description="Seconds to wait.")


class Located(BaseModel):
    """The header of an answer that made something."""

    Location: str = Field(description="The address of what was made.")


class ProgressOut(Output):
    """How far the present phase is."""

    percent: float | None
    rate_bytes_per_second: float | None
    seconds_left: float | None
