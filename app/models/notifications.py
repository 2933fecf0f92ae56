"""The outbox of notifications: one row per message and recipient."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint, desc, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.backup_history import one_of
from app.models.base import Base, HasId, utcnow

MEDIA = ("email", "channel", "heartbeat")
NOTIFICATION_STATUSES = ("pending", "sending", "sent", "failed")


class Notification(HasId, Base):
    """A message. `subject_key` identifies its event, so that no event is sent twice to the same target: an email address, a
    channel's id, or "success" and "failure" for heartbeats. Contains no secret."""

    __tablename__ = "notifications"
    __table_args__ = (
        CheckConstraint(one_of("medium", MEDIA), name="medium"),
        CheckConstraint(one_of("status", NOTIFICATION_STATUSES), name="status"),
        UniqueConstraint("subject_key", "medium", "target"),
        Index("ix_notifications_created_at", desc("created_at"), desc("id")),
        Index("ix_notifications_open", "next_attempt_at", postgresql_where=text(one_of("status", ("pending", "sending")))),
    )

    event: Mapped[str]
    subject_key: Mapped[str]
    medium: Mapped[str]
    target: Mapped[str]
    title: Mapped[str]
    text: Mapped[str]
    html: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime] = mapped_column(default=utcnow)
    claimed_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
