"""Compose notifications: find runs that have ended, and add one message per recipient to the outbox, once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from flask import render_template
from sqlalchemy import Select, select
from sqlalchemy.dialects.postgresql import insert

from app import current
from app.extensions import db
from app.models import BackupHistory, BackupSlot, Notification, Restore, utcnow
from app.services import settings_row
from app.services.installation import settings
from app.services.schedules import due_slots, schedules

ENDED = ("completed", "failed", "cancelled")
# Runs that ended longer ago are not announced: the history of a restored database, for example.
NEWS = timedelta(days=2)
LINES = 20
TITLE_LENGTH = 200
SWITCHES = {
    "success": ("notify_success",),
    "warnings": ("notify_success", "notify_warnings"),
    "failure": ("notify_failure",),
    "overdue": ("notify_overdue",),
    "restore": ("notify_restore",),
    "cleanup": ("notify_cleanup",),
    "damaged": ("notify_failure",),
}
HEARTBEATS = {"success": "success", "warnings": "success", "failure": "failure"}


@dataclass(frozen=True)
class Notice:
    """A notification. `mood` is good, bad or mixed; `facts` are (name, value), `lists` (title, lines)."""

    event: str
    key: str
    title: str
    headline: str
    mood: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    lists: list[tuple[str, list[str]]] = field(default_factory=list)
    path: str | None = None

    @property
    def link(self) -> str | None:
        """The page's full address, or None if PUBLIC_URL is not set."""
        base = current.settings().public_url
        return f"{base.rstrip('/')}{self.path}" if base and self.path else None

    @property
    def sender(self) -> str:
        """The name in the subject and the signature."""
        return f"{current.settings().app_name} backup"


def announce(now: datetime | None = None) -> None:
    """Add messages for ended runs and overdue backups to the outbox. Called at the end of every job and each minute."""
    now = now or utcnow()
    for backup in db.session.scalars(_news(select(BackupHistory), BackupHistory)).all():
        _backup_ended(backup, now)
    for restore in db.session.scalars(_news(select(Restore), Restore)).all():
        _restore_ended(restore, now)
    for late in schedules.overdue(now):
        if not late.announced:
            put(_overdue(late))
    db.session.commit()


def cleanup_trouble(trouble: list[str], now: datetime) -> None:
    """Notify of a cleanup's problems, at most once a day."""
    headline = f"The cleanup of old backups had {len(trouble)} problem{'s' if len(trouble) > 1 else ''}"
    key = f"cleanup:{now:%Y-%m-%d}"
    put(Notice("cleanup", key, headline, headline, "bad", lists=[("Problems", _first(trouble))], path="/backups/"))
    db.session.commit()


def damaged(problems: list[str], now: datetime) -> None:
    """Add a message about damaged or missing archives to the outbox, in the session's transaction."""
    number = len(problems)
    headline = "An archive is damaged or missing" if number == 1 else f"{number} archives are damaged or missing"
    hints = ["They protect nothing until the right files are back. Open these backups for details."]
    lists = [("Problems", _first(problems)), ("What to do", hints)]
    put(Notice("damaged", f"damaged:{now:%Y%m%dT%H%M%S.%f}", headline, headline, "bad", lists=lists, path="/backups/"))


def put(notice: Notice) -> None:
    """Add an outbox row per recipient to the session's transaction, skipping recipients that already have one."""
    found = settings_row.row()
    wanted = any(getattr(found, switch) for switch in SWITCHES[notice.event])
    targets: list[tuple[str, str]] = []
    if wanted and current.settings().smtp_url:
        targets += [("email", address) for address in found.recipients]
    if wanted:
        targets += [("channel", channel.id) for channel in settings.channels()]
    outcome = HEARTBEATS.get(notice.event)
    if outcome and settings.heartbeat_url(outcome):
        targets.append(("heartbeat", outcome))
    if not targets:
        return
    title, text, html = rendered(notice)
    for medium, target in targets:
        values = {"event": notice.event, "subject_key": notice.key, "medium": medium, "target": target, "title": title}
        body = {"text": text, "html": html if medium == "email" else None}
        db.session.execute(insert(Notification).values(**values, **body).on_conflict_do_nothing())


def rendered(notice: Notice) -> tuple[str, str, str]:
    """Return a message's title, text and HTML, with every secret of the settings redacted."""
    environment = current.settings()
    title = " ".join(f"[{notice.sender}] {notice.title}".split())[:TITLE_LENGTH]
    text = render_template("mail/notice.txt", notice=notice)
    html = render_template("mail/notice.html", notice=notice)
    return environment.redact(title), environment.redact(text), environment.redact(html)


def _news(chosen: Select, table: type[BackupHistory] | type[Restore]) -> Select:  # type: ignore[type-arg]
    ended = chosen.where(table.status.in_(ENDED), table.notified_at.is_(None)).order_by(table.created_at)
    return ended.with_for_update(skip_locked=True).execution_options(populate_existing=True)


def _backup_ended(backup: BackupHistory, now: datetime) -> None:
    if backup.status == "failed" and _is_tried_again(backup.id):
        return
    backup.notified_at = now
    old = backup.finished_at is None or now - backup.finished_at > NEWS
    if old or backup.status == "cancelled" or backup.kind not in ("manual", "scheduled"):
        return
    name = ", ".join(schedule.name for schedule in due_slots.schedules_of(backup.id)) or backup.kind
    facts = [("Backup of", current.settings().app_name), ("Schedule" if backup.schedule_id else "Kind", name)]
    facts += [("Started", _time(backup.started_at)), ("Finished", _time(backup.finished_at))]
    path = f"/backups/{backup.id}"
    if backup.status == "failed":
        attempts = max((slot.attempts for slot in due_slots.of_backup(backup.id)), default=1)
        facts.append(("Attempts", str(attempts)))
        headline = f"Backup failed: {name}"
        reason = [("Reason", [backup.error or "Unknown."])]
        put(Notice("failure", f"backup:{backup.id}:{backup.attempt}", headline, headline, "bad", facts, reason, path))
        return
    facts += [("File", backup.filename or ""), ("Size", f"{(backup.size_bytes or 0) / 1e6:,.1f} MB")]
    counts = backup.summary
    if counts:
        facts.append(("Contents", f"{counts['tables']} tables, {counts['rows']} rows, {counts['documents']} documents"))
    warned = len(backup.warnings)
    headline = f"Backup completed with {warned} warnings: {name}" if warned else f"Backup completed: {name}"
    event, mood = ("warnings", "mixed") if warned else ("success", "good")
    lists = [("Warnings", _first(backup.warnings))]
    put(Notice(event, f"backup:{backup.id}:{backup.attempt}", headline, headline, mood, facts, lists, path))


def _is_tried_again(backup_id: UUID) -> bool:
    waiting = select(BackupSlot.id).where(BackupSlot.backup_id == backup_id, BackupSlot.status.in_(("pending", "running")))
    return db.session.scalar(waiting.limit(1)) is not None


def _restore_ended(restore: Restore, now: datetime) -> None:
    restore.notified_at = now
    if restore.finished_at is None or now - restore.finished_at > NEWS or restore.status == "cancelled":
        return
    done = restore.status == "completed"
    headline = "Restore completed" if done else "Restore failed: the data is unchanged"
    facts = [
        ("Restore of", current.settings().app_name),
        ("Scope", restore.scope),
        ("Requested by", restore.requested_by or "-"),
    ]
    facts += [("Started", _time(restore.started_at)), ("Finished", _time(restore.finished_at))]
    if done and restore.undo_until is not None:
        facts.append(("Can be undone until", _time(restore.undo_until)))
    lists = [("Reason", [restore.error] if restore.error else []), ("Warnings", _first(restore.warnings))]
    put(Notice("restore", f"restore:{restore.id}", headline, headline, "good" if done else "bad", facts, lists))


def _overdue(late: schedules.Overdue) -> Notice:
    headline = f"Backup overdue: {late.schedule.name}"
    key = f"overdue:{late.slot_id or late.schedule.id}:{late.since:%Y%m%dT%H%M}"
    facts = [("Schedule", late.schedule.name), ("Due", _time(late.since))]
    hints = ["Check that a worker and the scheduler are running: `flask doctor` shows what is missing."]
    return Notice("overdue", key, headline, headline, "bad", facts, [("What to do", hints)], "/schedules/")


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - LINES
    return [*lines[:LINES], f"… and {more} more"] if more > 0 else list(lines)


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC" if moment else "-"
