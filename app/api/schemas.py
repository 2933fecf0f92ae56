"""The JSON of the API, as pydantic models: what all of it shares, backups, health."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Generic, Literal, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.models import BackupHistory
from app.services.backups import archive_files
from app.services.backups.backups import NOTE_LENGTH, ProgressView, progress
from app.services.inputs import Input, Proof
from app.services.paging import LARGEST_PAGE, Page

Status = Literal["queued", "in_progress", "completed", "failed", "cancelled"]
Kind = Literal["manual", "scheduled", "safety", "uploaded"]


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


class BackupFilters(Paging):
    """The query of the list."""

    status: Status | None = None
    kind: Kind | None = None
    schedule_id: UUID | None = None


class NewBackup(Input):
    """The body of a new backup."""

    note: str | None = Field(None, max_length=NOTE_LENGTH)


class UploadQuery(Input):
    """The query of an upload."""

    note: str | None = Field(None, max_length=NOTE_LENGTH, description="A note for the new backup.")


class BackupChange(Proof):
    """The body of a change: what is not named stays. A browser's session adds the password to unpin."""

    pinned: bool | None = None
    note: str | None = Field(None, max_length=NOTE_LENGTH)


class Verification(Input):
    """The body of a verification: `restore` loads the archive into a scratch database, too."""

    restore: bool = False


class ProgressOut(Output):
    """How far the present phase is."""

    percent: float | None
    rate_bytes_per_second: float | None
    seconds_left: float | None


class BackupOut(Output):
    """One backup."""

    id: UUID
    filename: str | None
    kind: Kind
    status: Status
    phase: str | None
    bytes_done: int
    bytes_total: int | None
    progress: ProgressOut
    schedule_id: UUID | None
    scheduled_for: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    size_bytes: int | None
    sha256: str | None
    summary: dict[str, Any]
    categories: list[str]
    expires_at: datetime | None
    pinned: bool
    note: str | None
    warnings: list[str]
    error: str | None
    damaged: str | None
    verified_at: datetime | None
    verify_requested_at: datetime | None
    verify_restoring: bool
    restore_tested_at: datetime | None
    restore_test_seconds: float | None
    origin: Literal["own", "other_key", "foreign"]
    trusted_at: datetime | None
    trusted_by: str | None
    cancel_requested_at: datetime | None
    requested_by: str | None
    attempt: int

    @classmethod
    def of(cls, row: BackupHistory) -> BackupOut:
        """Given a row, return its JSON."""
        view: ProgressView = progress(row)
        names = [name for name in cls.model_fields if name not in ("progress", "phase", "damaged")]
        values = {name: getattr(row, name) for name in names}
        return cls(**values, damaged=archive_files.damage(row), phase=view.phase, progress=ProgressOut.model_validate(view))


class BackupPage(PageOut[BackupOut]):
    """A page of the list of backups."""


class CheckOut(Output):
    """One health check."""

    name: str
    ok: bool
    detail: str


class HealthOut(BaseModel):
    """Whether everything is fine, and each check."""

    status: Literal["ok", "degraded"]
    checks: list[CheckOut]
