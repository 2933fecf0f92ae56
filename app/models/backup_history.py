"""One row for every backup: requested, running, completed, failed, cancelled or found by a rescan."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, UniqueConstraint, desc, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, HasId, utcnow

KINDS = ("manual", "scheduled", "safety", "uploaded")
STATUSES = ("queued", "in_progress", "completed", "failed", "cancelled")
LIVE = ("queued", "in_progress")
ORIGINS = ("own", "other_key", "foreign")


def one_of(column: str, values: tuple[str, ...]) -> str:
    """Return the SQL condition that a column has one of the values."""
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


class BackupHistory(HasId, Base):
    """A backup. `attempt` and `status` together fence it: see app.runs.ledger, which writes both.

    `size_bytes`, `bytes_done` and `bytes_total` are bytes; `phase` is the engine's, or "waiting" while queued behind
    another backup. `summary` has the manifest's figures: tables, rows, documents, documents_bytes, server_version.
    `verify_requested_at` is set while a verification is queued or running, `verify_restoring` if it also restores;
    `restore_test_seconds` is how long the last test restore took. `origin` says who signed the archive: "own" (our key),
    "other_key" (our format, another key) or "foreign" (not signed). `trusted_at`: when an admin trusted this archive.
    `damaged` says what is wrong with the file of a completed backup, which then protects nothing; `file_mtime_ns` is the
    file's modification time when it was last seen intact, or verified.
    """

    __tablename__ = "backup_history"
    __table_args__ = (
        CheckConstraint(one_of("kind", KINDS), name="kind"),
        CheckConstraint(one_of("status", STATUSES), name="status"),
        CheckConstraint(one_of("origin", ORIGINS), name="origin"),
        CheckConstraint(
            "status <> 'completed' OR (filename IS NOT NULL AND size_bytes > 0 AND sha256 IS NOT NULL"
            " AND started_at IS NOT NULL AND finished_at IS NOT NULL)",
            name="completed_has_archive",
        ),
        CheckConstraint("status <> 'failed' OR error IS NOT NULL", name="failed_has_reason"),
        UniqueConstraint("schedule_id", "scheduled_for"),
        UniqueConstraint("filename"),
        Index("ix_backup_history_created_at_id", desc("created_at"), desc("id")),
        Index("ix_backup_history_status_created_at", "status", desc("created_at"), desc("id")),
        Index("ix_backup_history_kind_created_at", "kind", desc("created_at"), desc("id")),
        Index("ix_backup_history_schedule_id_created_at", "schedule_id", desc("created_at"), desc("id")),
        Index("ix_backup_history_sha256", "sha256"),
        Index("ix_backup_history_news", "status", postgresql_where=text("notified_at IS NULL")),
        Index("ix_backup_history_live", "status", postgresql_where=text(one_of("status", LIVE))),
    )

    kind: Mapped[str]
    status: Mapped[str] = mapped_column(default="queued")
    phase: Mapped[str | None]
    bytes_done: Mapped[int] = mapped_column(default=0)
    bytes_total: Mapped[int | None]
    phase_started_at: Mapped[datetime | None]

    schedule_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("backup_schedules.id"))
    scheduled_for: Mapped[datetime | None]

    filename: Mapped[str | None]
    size_bytes: Mapped[int | None]
    file_mtime_ns: Mapped[int | None]
    damaged: Mapped[str | None]
    sha256: Mapped[str | None]
    summary: Mapped[dict[str, Any]] = mapped_column(default=dict)
    warnings: Mapped[list[str]] = mapped_column(default=list)
    error: Mapped[str | None]

    categories: Mapped[list[str]] = mapped_column(default=list)
    expires_at: Mapped[datetime | None]
    pinned: Mapped[bool] = mapped_column(default=False)
    note: Mapped[str | None]

    origin: Mapped[str] = mapped_column(default="own", server_default="own")
    trusted_at: Mapped[datetime | None]
    trusted_by: Mapped[str | None]

    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    verified_at: Mapped[datetime | None]
    restore_tested_at: Mapped[datetime | None]
    restore_test_seconds: Mapped[float | None] = mapped_column(Double)
    verify_requested_at: Mapped[datetime | None]
    verify_restoring: Mapped[bool] = mapped_column(default=False, server_default=text("false"))

    attempt: Mapped[int] = mapped_column(default=0)
    heartbeat_at: Mapped[datetime | None]
    enqueued_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    requested_by: Mapped[str | None]
    job_id: Mapped[str | None]
    host: Mapped[str | None]
    worker: Mapped[str | None]
    # When its end was added to the outbox, or found too old to announce.
    notified_at: Mapped[datetime | None]
