"""The global settings: one row."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Integer, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from app.models.base import Base, utcnow

TRUE, FALSE = text("true"), text("false")
RESERVE_BYTES = 256 * 1024 * 1024
# Columns of the settings, and of each schedule that has quotas of its own.
QUOTA_COLUMNS = ("keep_hourly", "keep_daily", "keep_weekly", "keep_monthly")


class BackupSettings(Base):
    """Quotas (backups kept per category, 0 switches one off) and the rest; its only row has the id 1.

    `channels_sealed`, `heartbeat_sealed` and `heartbeat_failure_sealed` are encrypted (app.services.installation.sealing).
    `audit_cut_*` are the position and hash of the last entry that was deleted from the audit log.
    `undo_hours` null: BACKUP_UNDO_HOURS applies. Backups leave `disk_reserve_bytes` free.
    """

    __tablename__ = "backup_settings"
    __table_args__ = (
        CheckConstraint("id = 1", name="single_row"),
        CheckConstraint("least(keep_hourly, keep_daily, keep_weekly, keep_monthly) >= 0", name="quotas"),
        CheckConstraint("audit_years > 0", name="audit_years"),
        CheckConstraint("undo_hours > 0 AND stall_minutes > 0 AND disk_reserve_bytes >= 0", name="limits"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False, default=1)
    keep_hourly: Mapped[int] = mapped_column(default=8, server_default="8")
    keep_daily: Mapped[int] = mapped_column(default=7, server_default="7")
    keep_weekly: Mapped[int] = mapped_column(default=4, server_default="4")
    keep_monthly: Mapped[int] = mapped_column(default=12, server_default="12")
    notify_success: Mapped[bool] = mapped_column(default=False, server_default=FALSE)
    notify_failure: Mapped[bool] = mapped_column(default=True, server_default=TRUE)
    notify_warnings: Mapped[bool] = mapped_column(default=True, server_default=TRUE)
    notify_overdue: Mapped[bool] = mapped_column(default=True, server_default=TRUE)
    notify_restore: Mapped[bool] = mapped_column(default=True, server_default=TRUE)
    notify_cleanup: Mapped[bool] = mapped_column(default=True, server_default=TRUE)
    recipients: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list, server_default="{}")
    channels_sealed: Mapped[str | None]
    heartbeat_sealed: Mapped[str | None]
    heartbeat_failure_sealed: Mapped[str | None]
    undo_hours: Mapped[int | None]
    stall_minutes: Mapped[int] = mapped_column(default=10, server_default="10")
    disk_reserve_bytes: Mapped[int] = mapped_column(default=RESERVE_BYTES, server_default=str(RESERVE_BYTES))
    audit_years: Mapped[int] = mapped_column(default=7, server_default="7")
    audit_cut_position: Mapped[int | None]
    audit_cut_hash: Mapped[str | None]
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)
