"""The JSON of schedules."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from app.api.schemas.common import Output, PageOut
from app.models import BackupSchedule
from app.services.inputs import Frequency
from app.services.schedules import schedules


class ScheduleOut(Output):
    """One schedule. `description` is its rule in words; `keep_*` null: the global quota applies."""

    id: UUID
    name: str
    frequency: Frequency
    minute: int | None
    hour: int | None
    day_of_week: int | None
    day_of_month: int | str | None
    cron_expression: str | None
    timezone: str
    description: str
    enabled: bool
    keep_hourly: int | None
    keep_daily: int | None
    keep_weekly: int | None
    keep_monthly: int | None
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_status: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: BackupSchedule) -> ScheduleOut:
        """Build the JSON of a row."""
        names = [name for name in cls.model_fields if name not in ("description", "day_of_month")]
        day = row.day_of_month
        values = {name: getattr(row, name) for name in names}
        values["day_of_month"] = int(day) if day and day.isdigit() else day
        return cls(**values, description=schedules.in_words(row))


class SchedulePage(PageOut[ScheduleOut]):
    """A page of the list of schedules."""


class SchedulePreviewOut(Output):
    """A rule in words, with its next runs in UTC."""

    words: str
    cron: str
    timezone: str
    next_runs: list[datetime]
