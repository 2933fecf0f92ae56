"""The JSON of the settings."""

from __future__ import annotations

from pydantic import BaseModel, Field

from app.api.schemas.common import Output
from app.services.inputs import SettingsInput


class ChannelOut(Output):
    """A channel, with its URL masked."""

    id: str
    name: str
    url: str


class SettingsIn(SettingsInput):
    """The settings to change; a browser session adds the password."""

    password: str | None = Field(None, max_length=1000)


class SettingsOut(Output):
    """The settings; secrets are masked, and may be sent back masked."""

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
    """The result of one test message."""

    medium: str
    target: str
    ok: bool
    detail: str


class TestsOut(BaseModel):
    """The result of each test message."""

    items: list[TestOut]
