"""The JSON of restores and their previews."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.common import Output, PageOut, ProgressOut, Status
from app.services.inputs import Id, Input, Proof
from app.services.restores import restores

Scope = Literal["all", "database", "documents"]


class PreviewIn(Input):
    """Options of a preview: `exact` counts and compares rows and compares every document, within a time limit."""

    scope: Scope = "all"
    exact: bool = False


class RestoreIn(Input):
    """A restore to start. `confirm` is the name of the database; `safety_backup` false skips the safety backup; a browser
    session adds the password."""

    confirm: str
    scope: Scope = "all"
    safety_backup: bool = True
    password: str | None = Field(None, max_length=1000)


class RestoreChoice(Input):
    """Which restore; by default the running or the latest one."""

    restore_id: Id | None = None


class UndoIn(RestoreChoice, Proof):
    """Which restore to undo; a browser session adds the password."""


class TrustIn(Proof):
    """The confirming sentence; a browser session adds the password."""

    words: str = Field(max_length=200)


class RowsDiffOut(Output):
    """Rows that reappear (added), get their old values back (changed: same primary key, other values) and disappear (lost).
    `examples` has some of their primary keys, whose columns are `key`; without a primary key nothing counts as changed."""

    added: int
    changed: int
    lost: int
    key: list[str]
    examples: dict[str, list[str]]


class TableDiffOut(BaseModel):
    """A table's rows now and in the backup, null where it does not exist; columns that reappear (added) or disappear (lost).
    `rows` is null if rows were not compared: only an exact preview does so, within a time limit."""

    model_config = ConfigDict(from_attributes=True, populate_by_name=True)

    schema_name: str = Field(alias="schema", serialization_alias="schema")
    name: str
    rows_now: int | None
    rows_backup: int | None
    approximate: bool
    columns_added: list[str]
    columns_lost: list[str]
    rows: RowsDiffOut | None


class DocumentsDiffOut(Output):
    """The documents now and in the backup: what reappears (added), changes, and disappears (lost)."""

    files_now: int
    bytes_now: int
    files_backup: int
    bytes_backup: int
    added: int | None
    changed: int | None
    lost: int | None
    examples: dict[str, list[str]]
    approximate: bool


class PreviewOut(BaseModel):
    """What a restore would change. It is refused if there are blockers."""

    backup_id: UUID
    filename: str | None
    scope: Scope
    confirm: str
    exact: bool
    strategy: Literal["swap", "in_place"]
    ours: bool
    signed: bool
    trusted: bool
    tables: list[TableDiffOut]
    documents: DocumentsDiffOut | None
    version_backup: str
    version_now: str
    disk_needed_bytes: int
    disk_free_bytes: int
    restore_seconds: float | None
    safety_backup_seconds: float | None
    blockers: list[str]
    warnings: list[str]
    code: list[str]
    archive_started_at: datetime | None

    @classmethod
    def of(cls, found: restores.RestorePreview) -> PreviewOut:
        """Build the JSON of a preview."""
        diff = found.diff
        same: tuple[str, ...] = ("scope", "exact", "strategy", "ours", "signed", "trusted", "version_backup", "version_now")
        same += ("disk_needed_bytes", "disk_free_bytes", "code", "archive_started_at")
        values: dict[str, Any] = {name: getattr(diff, name) for name in same}
        return cls(
            **values,
            backup_id=found.backup.id,
            filename=found.backup.filename,
            confirm=found.confirm,
            tables=[TableDiffOut.model_validate(table) for table in diff.tables],
            documents=DocumentsDiffOut.model_validate(diff.documents) if diff.documents else None,
            restore_seconds=found.restore_seconds,
            safety_backup_seconds=found.safety_backup_seconds,
            blockers=found.blockers,
            warnings=found.warnings,
        )


class RestoreOut(BaseModel):
    """One restore."""

    id: UUID
    backup_id: UUID | None
    safety_backup_id: UUID | None
    scope: Scope
    safety_backup: bool
    status: Status
    phase: str | None
    bytes_done: int
    bytes_total: int | None
    progress: ProgressOut
    created_at: datetime
    started_at: datetime | None
    swap_at: datetime | None
    finished_at: datetime | None
    error: str | None
    warnings: list[str]
    result: dict[str, Any]
    undo_until: datetime | None
    undone_at: datetime | None
    discarded_at: datetime | None
    undo_possible: bool
    cancel_requested_at: datetime | None
    requested_by: str | None
    attempt: int

    @classmethod
    def of(cls, row: restores.Restore) -> RestoreOut:
        """Build the JSON of a row."""
        view = restores.progress(row)
        names = [name for name in cls.model_fields if name not in ("progress", "phase", "undo_possible")]
        values = {name: getattr(row, name) for name in names}
        possible = restores.undo_problem(row) is None
        return cls(**values, phase=view.phase, progress=ProgressOut.model_validate(view), undo_possible=possible)


class RestorePage(PageOut[RestoreOut]):
    """A page of the list of restores."""
