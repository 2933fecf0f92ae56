"""The JSON of schedules, retention and settings."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from app.api.schemas import Output, PageOut
from app.models import BackupSchedule
from app.services.inputs import Frequency, SettingsInput
from app.services.retention.retention import Explanation, PlanView
from app.services.schedules import schedules


class ScheduleOut(Output):
    """One schedule. `description` is its rule in words; `keep_*` null: the global quota."""

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
        """Given a row, return its JSON."""
        names = [name for name in cls.model_fields if name not in ("description", "day_of_month")]
        day = row.day_of_month
        values = {name: getattr(row, name) for name in names}
        values["day_of_month"] = int(day) if day and day.isdigit() else day
        return cls(**values, description=schedules.in_words(row))


class SchedulePage(PageOut[ScheduleOut]):
    """A page of the list of schedules."""


class SchedulePreviewOut(Output):
    """A rule in words, and its next runs in UTC."""

    words: str
    cron: str
    timezone: str
    next_runs: list[datetime]


class ChannelOut(Output):
    """A channel, its URL masked."""

    id: str
    name: str
    url: str


class SettingsIn(SettingsInput):
    """The settings to change; a browser's session adds the password."""

    password: str | None = Field(None, max_length=1000)


class SettingsOut(Output):
    """The settings; secrets are masked, and may be sent back like that."""

    keep_hourly: int
    keep_daily: int
    keep_weekly: int
    keep_monthly: int
    notify_success: bool
    notify_failure: bool
    notify_warnings: bool
    notify_overdue: bool
    notify_restore: bool
    notify_cleanup: bool
    recipients: list[str]
    channels: list[ChannelOut]
    heartbeat_url: str | None
    heartbeat_failure_url: str | None
    undo_hours: int
    stall_minutes: int
    audit_years: int
    disk_reserve_bytes: int
    mail_configured: bool


class TestOut(Output):
    """How a test message to one addressee went."""

    medium: str
    target: str
    ok: bool
    detail: str


class TestsOut(BaseModel):
    """How each test message went."""

    items: list[TestOut]


class ExplanationOut(Output):
    """Why a backup is kept. `leaves_at` null: never, or further away than is reckoned."""

    backup_id: UUID
    filename: str | None
    started_at: datetime
    size_bytes: int
    kind: str
    keep: bool
    categories: list[str]
    expires_at: datetime | None
    leaves_at: datetime | None
    text: str


class ForecastOut(Output):
    """How many backups and bytes there will be at a time."""

    at: datetime
    backups: int
    bytes: int


class PlanOut(BaseModel):
    """What a policy keeps and deletes now; `newly_deleted` are those that the present policy keeps."""

    quotas: dict[str, int]
    kept: int
    kept_bytes: int
    deleted: int
    deleted_bytes: int
    newly_deleted: list[UUID]
    would_delete: list[ExplanationOut]
    would_keep: list[ExplanationOut]
    missing: list[UUID]
    damaged: list[UUID]
    forecast: list[ForecastOut]

    @classmethod
    def of(cls, view: PlanView) -> PlanOut:
        """Given a plan, return its JSON."""

        def explained(entries: list[Explanation]) -> list[ExplanationOut]:
            return [ExplanationOut.model_validate(entry) for entry in entries]

        return cls(
            quotas=view.quotas,
            kept=len(view.kept),
            kept_bytes=view.kept_bytes,
            deleted=len(view.deleted),
            deleted_bytes=view.deleted_bytes,
            newly_deleted=view.newly_deleted,
            would_delete=explained(view.deleted),
            would_keep=explained(view.kept),
            missing=view.missing,
            damaged=view.damaged,
            forecast=[ForecastOut.model_validate(entry) for entry in view.forecast],
        )


class CleanupOut(Output):
    """What a cleanup did."""

    deleted: list[str]
    freed_bytes: int
    in_use: list[str]
    trouble: list[str]
    failed_rows: int
    orphans: list[str]
    missing: int
    damaged: int
