"""The JSON of backups."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from app.api.schemas.common import Output, PageOut, Paging, ProgressOut, Status
from app.models import BackupHistory
from app.services.backups.backups import NOTE_LENGTH, ProgressView, progress
from app.services.history import archive_damage
from app.services.inputs import Input, Proof

Kind = Literal["manual", "scheduled", "safety", "uploaded"]


class BackupFilters(Paging):
    """Filters of the list."""

    status: Status | None = None
    kind: Kind | None = None
    schedule_id: UUID | None = None


class NewBackup(Input):
    """A backup to start."""

    note: str | None = Field(None, max_length=NOTE_LENGTH)


class UploadQuery(Input):
    """Parameters of an upload."""

    note: str | None = Field(None, max_length=NOTE_LENGTH, description="A note for the new backup.")


class BackupChange(Proof):
    """Changes of a backup; fields left out stay unchanged. A browser session adds the password to unpin."""

    pinned: bool | None = None
    note: str | None = Field(None, max_length=NOTE_LENGTH)


class Verification(Input):
    """Options of a verification: `restore` also loads the archive into a scratch database."""

    restore: bool = False


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
        """Convert a row to JSON, and check its archive for damage."""
        return cls.with_damage(row, archive_damage.damage(row))

    @classmethod
    def with_damage(cls, row: BackupHistory, damaged: str | None) -> BackupOut:
        """Convert a row to JSON whose archive has been checked."""
        view: ProgressView = progress(row)
        names = [name for name in cls.model_fields if name not in ("progress", "phase", "damaged")]
        values = {name: getattr(row, name) for name in names}
        return cls(**values, damaged=damaged, phase=view.phase, progress=ProgressOut.model_validate(view))


class BackupPage(PageOut[BackupOut]):
    """A page of the list of backups."""
