"""The global settings: one row."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Integer
from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base, utcnow


class BackupSettings(Base):
    """Quotas (backups kept per category, 0 switches one off) and the rest; its only row has the id 1."""

    __tablename__ = "backup_settings"
    __table_args__ = (
        CheckConstraint("id = 1", name="single_row"),
        CheckConstraint("least(keep_hourly, keep_daily, keep_weekly, keep_monthly) >= 0", name="quotas"),
    )

    id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False, default=1)
    keep_hourly: Mapped[int] = mapped_column(default=8, server_default="8")
    keep_daily: Mapped[int] = mapped_column(default=7, server_default="7")
    keep_weekly: Mapped[int] = mapped_column(default=4, server_default="4")
    keep_monthly: Mapped[int] = mapped_column(default=12, server_default="12")
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)
