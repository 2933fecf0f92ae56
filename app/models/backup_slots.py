"""One row for every time at which a schedule was due."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.backup_history import one_of
from app.models.base import Base, HasId, utcnow

SLOT_STATUSES = ("pending", "running", "completed", "failed", "cancelled")
OPEN_SLOTS = ("pending", "running")


class BackupSlot(HasId, Base):
    """A schedule's slot, filled by the backup that it points at; slots that coincide point at one backup.

    `pending` waits for `next_attempt_at`, `running` for its backup, queued or in progress. `attempts` counts the runs
    that were begun; `error` says why the last one failed.
    """

    __tablename__ = "backup_slots"
    __table_args__ = (
        CheckConstraint(one_of("status", SLOT_STATUSES), name="status"),
        CheckConstraint("status <> 'pending' OR next_attempt_at IS NOT NULL", name="pending_has_time"),
        UniqueConstraint("schedule_id", "scheduled_for"),
        Index("ix_backup_slots_open", "status", postgresql_where=text(one_of("status", OPEN_SLOTS))),
        Index("ix_backup_slots_backup_id", "backup_id"),
    )

    schedule_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("backup_schedules.id"))
    scheduled_for: Mapped[datetime]
    status: Mapped[str] = mapped_column(default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None]
    backup_id: Mapped[uuid.UUID | None] = mapped_column(ForeignKey("backup_history.id", ondelete="SET NULL"))
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    finished_at: Mapped[datetime | None]
