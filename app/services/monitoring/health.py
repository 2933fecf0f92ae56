"""Health checks, cheap enough for every page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from flask import Flask, current_app
from redis.exceptions import RedisError
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from app import current
from app.engine.errors import EngineError
from app.engine.source.preflight import READ_ONLY, is_read_only
from app.extensions import db
from app.models import BackupHistory, Tick, utcnow
from app.models.backup_settings import RESERVE_BYTES
from app.runs import queue
from app.services import settings_row
from app.services.history import archive_damage
from app.services.installation import restore_engine, settings_watch
from app.services.installation.storage import storage
from app.services.notifications import outbox
from app.services.schedules import last_ticks, schedules

SCHEDULER_SILENT = timedelta(minutes=3)
# All processes start at once, and some take longer than the first page.
LENIENT_AT_FIRST = timedelta(minutes=2)
_BEGAN = "health_began"
# Allow for the next backup to be this much larger than the last one.
GROWTH = 1.1
# How many of the newest archives are checked each time.
LOOKED_AT = 20

# What anonymous clients see of a failed check; of checks not listed here, only that they failed.
STRANGERS = {
    "postgresql": "DATABASE_URL can't be reached. Check that PostgreSQL is running.",
    "redis": "REDIS_URL can't be reached. Check that Redis or Valkey is running.",
    "worker": "No worker is running, so backups stay queued. Start one with `flask worker`.",
    "scheduler": "The scheduler does not tick. Start it with `flask scheduler`; it takes a minute.",
    "last_backup": "The last backup failed. Its page says why.",
    "schedules": "A scheduled backup is overdue. Sign in to see which.",
    "notifications": "Messages can't be delivered. Sign in to see why.",
    "disk": "The disk of the backups is too full, or can't be read. Sign in for details.",
}


@dataclass(frozen=True)
class Check:
    """The result of a health check: a short name, whether it passed, and a sentence for people. Contains no secret."""

    name: str
    ok: bool
    detail: str


def begins(app: Flask) -> None:
    """Start the grace period during which a missing worker or scheduler is not an error."""
    app.extensions[_BEGAN] = utcnow()


def checks() -> list[Check]:
    """Return every check. Raise nothing: a check that can't be run has failed."""
    database = _guarded("postgresql", _database, "DATABASE_URL can't be reached. Check that PostgreSQL is running.")
    redis = _guarded("redis", _redis, "REDIS_URL can't be reached. Check that Redis or Valkey is running.")
    found = [database, redis]
    if redis.ok:
        found.append(_guarded("worker", _worker, "The workers can't be listed."))
        found.append(_guarded("settings", _settings, "The settings of the running processes can't be compared."))
    if database.ok:
        found.append(_guarded("scheduler", _scheduler, "The scheduler's last tick can't be read."))
        found.append(_guarded("last_backup", _last_backup, "The history can't be read."))
        found.append(_guarded("schedules", _schedules, "The schedules can't be read."))
        found.append(_guarded("notifications", _notifications, "The outbox can't be read."))
        found.append(_guarded("archives", _archives, "The archives can't be accessed. Check BACKUP_STORAGE_DIR."))
    found.append(_guarded("restores", _restores, "The restores' journals can't be read."))
    found.append(_guarded("disk", _disk, "BACKUP_STORAGE_DIR can't be read. Check that the folder is mounted."))
    return found


def for_strangers(check: Check) -> Check:
    """Reduce a check to what anybody may see: no name, address, figure or server's answer."""
    if check.ok:
        return check if check.name in STRANGERS and check.name != "disk" else Check(check.name, True, "Fine.")
    return Check(check.name, False, STRANGERS.get(check.name, "This check failed. Sign in, or send a token, to see why."))


def ready() -> list[Check]:
    """Return the checks of what every request needs."""
    return [
        _guarded("postgresql", _database, "DATABASE_URL can't be reached."),
        _guarded("redis", _redis, "REDIS_URL can't be reached."),
    ]


def _guarded(name: str, look: Callable[[], tuple[bool, str]], trouble: str) -> Check:
    try:
        ok, detail = look()
    except (SQLAlchemyError, RedisError, OSError):
        db.session.rollback()
        return Check(name, False, trouble)
    return Check(name, ok, detail)


def _database() -> tuple[bool, str]:
    db.session.execute(text("SELECT 1"))
    return True, "PostgreSQL answers."


def _redis() -> tuple[bool, str]:
    queue.connection().ping()
    return True, "Redis answers."


def _worker() -> tuple[bool, str]:
    served = {name for worker in queue.workers() for name in worker.queues}
    missing = [name for name in queue.QUEUES if name not in served]
    if not missing:
        return True, "A worker is running."
    if _just_begun():
        return True, "The worker has not started yet."
    return False, "No worker is running, so backups stay queued. Start one with `flask worker`."


def _settings() -> tuple[bool, str]:
    settings = current.settings()
    for report, names in settings_watch.disagreements(settings, queue.connection()):
        harmful = ", ".join(name for name in names if name not in settings_watch.HARMLESS)
        if harmful:
            return False, f"The {report.kind} on {report.host} uses another {harmful} than this process. Restart both."
    return True, "All processes use the same settings."


def _scheduler() -> tuple[bool, str]:
    last = db.session.scalar(select(Tick.last_ran_at).where(Tick.name == last_ticks.CHECK))
    if last is not None and utcnow() - last <= SCHEDULER_SILENT:
        return True, "The scheduler ticks."
    if _just_begun():
        return True, "The scheduler has not ticked yet."
    if last is None:
        return False, "The scheduler has not ticked yet. Start it with `flask scheduler`; it takes a minute."
    return False, f"The scheduler has been silent since {last:%Y-%m-%d %H:%M} UTC. Start it with `flask scheduler`."


def _just_begun() -> bool:
    began: datetime | None = current_app.extensions.get(_BEGAN)
    return began is not None and utcnow() - began < LENIENT_AT_FIRST


def _last_backup() -> tuple[bool, str]:
    closed = select(BackupHistory).where(BackupHistory.status.in_(("completed", "failed")), BackupHistory.kind != "uploaded")
    row = db.session.scalar(closed.order_by(BackupHistory.created_at.desc()).limit(1))
    if row is None:
        return True, "No backup has been made yet."
    if row.status == "failed":
        return False, "The last backup failed. Its page says why."
    return True, "The last backup completed."


def _archives() -> tuple[bool, str]:
    """Check the newest archives directly; the minute tick has checked the others."""
    completed = select(BackupHistory).where(BackupHistory.status == "completed")
    newest = db.session.scalars(completed.order_by(BackupHistory.created_at.desc()).limit(LOOKED_AT)).all()
    if newest and all(row.filename and archive_damage.look_at(row.filename) is None for row in newest):
        return False, "None of the newest archives is in the storage folder. Check that BACKUP_STORAGE_DIR is mounted."
    marked = select(BackupHistory.id).where(BackupHistory.status == "completed", BackupHistory.damaged.is_not(None))
    damaged = set(db.session.scalars(marked)) | {row.id for row in newest if archive_damage.damage(row)}
    if damaged:
        words = "1 archive is" if len(damaged) == 1 else f"{len(damaged)} archives are"
        return False, f"{words} damaged or missing and protect nothing. Their backups' pages have the details."
    return True, "All archives are unchanged."


def _schedules() -> tuple[bool, str]:
    late = schedules.overdue()
    if late:
        names = ", ".join(f"{entry.schedule.name} (since {entry.since:%Y-%m-%d %H:%M} UTC)" for entry in late)
        return False, f"Overdue: {names}. The expected backup is missing; the schedule's page says why."
    return True, "No schedule is overdue."


def _notifications() -> tuple[bool, str]:
    reason = outbox.trouble()
    if reason is None:
        return True, "No message waits for its server."
    return False, f"Messages can't be delivered: {reason}"


def _restores() -> tuple[bool, str]:
    try:
        problems = restore_engine.journal_problems()
    except EngineError:
        return True, "The kept states of restores can't be checked: BACKUP_SOURCE_URL does not name a database."
    if problems:
        what = "A restore's journal" if len(problems) == 1 else f"{len(problems)} journals of restores"
        return (
            False,
            f"{what} can't be used, so the state that it keeps is neither undone nor dropped. `flask doctor` says why.",
        )
    return True, "The kept states of restores are in order."


def _disk() -> tuple[bool, str]:
    archives = storage().or_nearest()
    if is_read_only(archives.folder):
        return False, f"BACKUP_STORAGE_DIR: {archives.folder} {READ_ONLY}."
    free = archives.free_space()
    needed = next_backup_bytes()
    text = f"{free / 1e9:.1f} GB are free where the backups are stored"
    if free < needed:
        return False, f"Only {text}: the next backup needs about {needed / 1e9:.1f} GB. Free some, or lower the quotas."
    return True, f"{text}."


def next_backup_bytes() -> int:
    """Return the expected size of the next backup, plus what must stay free."""
    try:
        done = select(BackupHistory.size_bytes).where(BackupHistory.status == "completed", BackupHistory.kind != "uploaded")
        last = db.session.scalar(done.order_by(BackupHistory.created_at.desc()).limit(1))
        return int((last or 0) * GROWTH) + settings_row.row().disk_reserve_bytes
    except SQLAlchemyError:
        db.session.rollback()
        return RESERVE_BYTES
