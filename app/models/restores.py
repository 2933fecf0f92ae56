"""One row for every restore: requested, running, completed, failed or cancelled."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Index, desc, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.backup_history import LIVE, STATUSES, one_of
from app.models.base import Base, HasId, utcnow

SCOPES = ("all", "database", "documents")


class Restore(HasId, Base):
    """A restore. `attempt` and `status` together fence it: see app.runs.ledger, which writes both.

    `swap_at` is set when the swap begins: from then on it can't be cancelled. A completed restore keeps the state before
    it until `undo_until` (null: none is kept), unless `discarded_at` says that it was dropped; while `undone_at`
    is set, that old state is the live one. `result` holds what changed: strategy, tables, documents, gap_seconds,
    archive_bytes.
    """

    __tablename__ = "restores"
    __table_args__ = (
        CheckConstraint(one_of("status", STATUSES), name="status"),
        CheckConstraint(one_of("scope", SCOPES), name="scope"),
        CheckConstraint("status <> 'failed' OR error IS NOT NULL", name="failed_has_reason"),
        CheckConstraint("status <> 'completed' OR finished_at IS NOT NULL", name="completed_has_end"),
        Index("ix_restores_created_at", desc("created_at"), desc("id")),
        Index("ix_restores_news", "status", postgresql_where=text("notified_at IS NULL")),
        Index("ix_restores_live", "status", postgresql_where=text(one_of("status", LIVE))),
    )

    backup_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("backup_history.id", ondelete="SET NULL"), index=True)
    safety_backup_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("backup_history.id", ondelete="SET NULL"), index=True
    )
    scope: Mapped[str]
    safety_backup: Mapped[bool] = mapped_column(default=True)
    status: Mapped[str] = mapped_column(default="queued")
    phase: Mapped[str | None]
    bytes_done: Mapped[int] = mapped_column(default=0)
    bytes_total: Mapped[int | None]
    phase_started_at: Mapped[datetime | None]

    error: Mapped[str | None]
    warnings: Mapped[list[str]] = mapped_column(default=list)
    result: Mapped[dict[str, Any]] = mapped_column(default=dict)

    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    started_at: Mapped[datetime | None]
    swap_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    undo_until: Mapped[datetime | None]
    undone_at: Mapped[datetime | None]
    discarded_at: Mapped[datetime | None]

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
