"""The global settings in the database: quotas, notifications, limits."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from app import current
from app.errors import InvalidInput
from app.extensions import db
from app.models import BackupSettings, utcnow
from app.services import settings_row
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.delivery import channel_problem
from app.services.inputs import ChannelInput, SettingsInput
from app.services.installation import sealing

PLAIN = (
    "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "notify_success", "notify_failure", "notify_warnings",
    "notify_overdue", "notify_restore", "notify_cleanup", "recipients", "stall_minutes", "audit_years", "disk_reserve_bytes",
    "undo_hours",
)  # fmt: skip
HEARTBEATS = {"heartbeat_url": "heartbeat_sealed", "heartbeat_failure_url": "heartbeat_failure_sealed"}
HIDDEN = "***"


@dataclass(frozen=True)
class Channel:
    """An Apprise channel: its id, its name, and its URL, which is a secret."""

    id: str
    name: str
    url: str = field(repr=False)

    @property
    def shown(self) -> str:
        """The masked URL."""
        return masked(self.url)


@dataclass(frozen=True)
class ChannelView:
    """A channel with its URL masked."""

    id: str
    name: str
    url: str


@dataclass(frozen=True)
class SettingsView:
    """The settings with every secret masked."""

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
    channels: list[ChannelView]
    heartbeat_url: str | None
    heartbeat_failure_url: str | None
    undo_hours: int
    stall_minutes: int
    audit_years: int
    disk_reserve_bytes: int
    mail_configured: bool


def view() -> SettingsView:
    """Return the settings with secrets masked."""
    found = settings_row.row()
    plain: dict[str, Any] = {name: getattr(found, name) for name in PLAIN} | {"undo_hours": undo_hours()}
    return SettingsView(
        **plain,
        channels=[ChannelView(channel.id, channel.name, channel.shown) for channel in channels()],
        heartbeat_url=_shown(found.heartbeat_sealed),
        heartbeat_failure_url=_shown(found.heartbeat_failure_sealed),
        mail_configured=bool(current.settings().smtp_url),
    )


def update(actor: Actor, given: SettingsInput) -> SettingsView:
    """Save changed settings and return all of them, masked. Raise InvalidInput."""
    found = settings_row.row()
    names = given.model_fields_set
    problems: dict[str, str] = {}
    changes: dict[str, Any] = {}
    for name in PLAIN:
        value = getattr(given, name)
        if name in names and value is None and name != "undo_hours":
            problems[name] = "Give a value, or omit the field to keep the current one."
        elif name in names and value != getattr(found, name):
            changes[name] = value
    for name, column in HEARTBEATS.items():
        if name in names:
            _change_heartbeat(found, name, column, getattr(given, name), changes, problems)
    if "channels" in names:
        _change_channels(given.channels or [], changes, problems)
    if problems:
        raise InvalidInput(problems)
    for name, value in changes.items():
        setattr(found, name, value)
    if changes:
        visible = {name: value for name, value in changes.items() if not name.endswith("_sealed")}
        hidden = [name.removesuffix("_sealed") for name in changes if name.endswith("_sealed")]
        audit.record(actor, "settings.changed", "settings", None, visible | ({"secrets": hidden} if hidden else {}))
        found.updated_at = utcnow()
    db.session.commit()
    return view()


def channels() -> list[Channel]:
    """Return the Apprise channels with their URLs; none if SECRET_KEY has changed since they were encrypted."""
    text = sealing.unseal(settings_row.row().channels_sealed)
    return [Channel(**entry) for entry in json.loads(text)] if text else []


def heartbeat_url(outcome: str) -> str | None:
    """Return the URL to ping on "success" or "failure", or None."""
    found = settings_row.row()
    return sealing.unseal(found.heartbeat_sealed if outcome == "success" else found.heartbeat_failure_sealed)


def undo_hours() -> int:
    """Return the number of hours for which a restore can be undone."""
    return settings_row.row().undo_hours or current.settings().undo_hours


def masked(url: str) -> str:
    """Mask a URL that contains secrets: keep its scheme and, for plain web addresses, its host."""
    try:
        parts = urlsplit(url)
        web = parts.scheme in ("http", "https")
        return f"{parts.scheme}://{parts.hostname}/{HIDDEN}" if web else f"{parts.scheme}://{HIDDEN}"
    except ValueError:
        return HIDDEN


def _shown(sealed: str | None) -> str | None:
    url = sealing.unseal(sealed)
    return masked(url) if url else None


def _change_heartbeat(  # noqa: PLR0913, PLR0917 - collects into two of them
    found: BackupSettings, name: str, column: str, url: str | None, changes: dict[str, Any], problems: dict[str, str]
) -> None:
    url = (url or "").strip()
    present = getattr(found, column)
    if url and url == _shown(present):
        return
    if url and not is_web_address(url):
        problems[name] = "Give an address that begins with http:// or https://."
        return
    if url or present is not None:
        changes[column] = sealing.seal(url) if url else None


def is_web_address(url: str) -> bool:
    """Return whether a text is a complete http or https address."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:
        return False


def _change_channels(given: list[ChannelInput], changes: dict[str, Any], problems: dict[str, str]) -> None:
    known = {channel.id: channel for channel in channels()}
    wanted = []
    for number, entry in enumerate(given):
        old = known.get(entry.id or "")
        url = (entry.url or "").strip()
        if old is not None and url in ("", old.shown):
            url = old.url
        elif entry.id is not None and old is None and not url:
            problems[f"channels.{number}.url"] = "This channel no longer exists: enter its URL."
            continue
        problem = channel_problem(url)
        if problem is not None:
            problems[f"channels.{number}.url"] = problem
            continue
        wanted.append({"id": old.id if old is not None else secrets.token_hex(8), "name": entry.name, "url": url})
    present = [{"id": channel.id, "name": channel.name, "url": channel.url} for channel in known.values()]
    if wanted != present:
        changes["channels_sealed"] = sealing.seal(json.dumps(wanted)) if wanted else None
