"""The schedules of automatic backups."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, HasId, utcnow

FREQUENCIES = ("hourly", "daily", "weekly", "monthly", "custom")


class BackupSchedule(HasId, Base):
    """A schedule. `day_of_week` counts from Sunday = 0; `day_of_month` is "1".."31" or "last"; `keep_*` null means
    the global quota. A deleted schedule keeps its row (`deleted_at`), since its backups stay under its last quotas."""

    __tablename__ = "backup_schedules"
    __table_args__ = (
        CheckConstraint(f"frequency IN ({', '.join(repr(name) for name in FREQUENCIES)})", name="frequency"),
        CheckConstraint("minute BETWEEN 0 AND 59", name="minute"),
        CheckConstraint("hour BETWEEN 0 AND 23", name="hour"),
        CheckConstraint("day_of_week BETWEEN 0 AND 6", name="day_of_week"),
        CheckConstraint("day_of_month ~ '^([1-9]|[12][0-9]|3[01]|last)$'", name="day_of_month"),
        CheckConstraint("frequency <> 'custom' OR cron_expression IS NOT NULL", name="custom_has_cron"),
        CheckConstraint(
            "least(keep_hourly, keep_daily, keep_weekly, keep_monthly) IS NULL"
            " OR least(keep_hourly, keep_daily, keep_weekly, keep_monthly) >= 0",
            name="quotas",
        ),
        Index("ix_backup_schedules_due", "next_run_at", postgresql_where=text("enabled AND deleted_at IS NULL")),
    )

    name: Mapped[str]
    frequency: Mapped[str]
    minute: Mapped[int | None]
    hour: Mapped[int | None]
    day_of_week: Mapped[int | None]
    day_of_month: Mapped[str | None]
    cron_expression: Mapped[str | None]
    timezone: Mapped[str] = mapped_column(default="UTC")
    enabled: Mapped[bool] = mapped_column(default=True)
    keep_hourly: Mapped[int | None]
    keep_daily: Mapped[int | None]
    keep_weekly: Mapped[int | None]
    keep_monthly: Mapped[int | None]
    next_run_at: Mapped[datetime | None]
    last_run_at: Mapped[datetime | None]
    last_status: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)
    deleted_at: Mapped[datetime | None]
