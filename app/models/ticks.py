"""When each periodic tick last ran, which reveals a silent scheduler and a missed cleanup."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.models.base import Base


class Tick(Base):
    """One row for each entry of app.processes.scheduler."""

    __tablename__ = "ticks"

    name: Mapped[str] = mapped_column(primary_key=True)
    last_ran_at: Mapped[datetime]
