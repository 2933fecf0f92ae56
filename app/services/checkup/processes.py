"""Check Redis, the processes, and whether anybody would be notified of a failure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from redis.exceptions import RedisError
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from app.config import Settings
from app.extensions import db
from app.models import BackupHistory, BackupSchedule, utcnow
from app.runs import queue
from app.services import delivery, settings_row
from app.services.audit import audit_chain
from app.services.checkup.findings import Finding, fine, problem, warning
from app.services.checkup.metadata import clock
from app.services.installation import settings as stored
from app.services.installation import settings_watch
from app.services.monitoring import attention, health
from app.services.people import tokens

AREA = "REDIS_URL"
OLDEST_REDIS = 5
RESTORE_TEST_DUE = timedelta(days=35)
ADVICE = {
    "postgresql": "Check that PostgreSQL runs, and DATABASE_URL.",
    "redis": "Check that Redis or Valkey runs, and REDIS_URL.",
    "worker": "Start `flask worker`, and let systemd or compose restart it when it exits.",
    "scheduler": "Start `flask scheduler`, and let systemd or compose restart it when it exits.",
    "last_backup": "Open its page, or run `flask backup show ID`; fix the cause and start one manually.",
    "settings": "`flask doctor` names each process; restart those that are out of date.",
    "schedules": "Open the schedule's page; `flask backup create --wait` makes one now.",
    "notifications": "Settings, Notifications: send a test.",
    "disk": "Free some space, or lower the quotas.",
}
RESTART = (
    "Restart it with the intended settings (systemctl restart, docker compose up -d); until then its backups and "
    "restores use its old ones."
)
# Checked in more detail elsewhere.
LEFT_OUT = {"postgresql", "redis", "disk", "settings"}


def look_at_redis(settings: Settings) -> Iterator[Finding]:
    """Yield the findings."""
    client = queue.connection()
    try:
        before = datetime.now(UTC)
        seconds, microseconds = client.time()
        after = datetime.now(UTC)
        info: dict[str, Any] = client.info()
    except RedisError as error:
        yield problem(AREA, f"The queue can't be reached: {error}", ADVICE["redis"])
        return
    name = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version"))
    if int(version.partition(".")[0]) < OLDEST_REDIS:
        yield problem(AREA, f"{name} {version} is too old for the queue.", f"Install version {OLDEST_REDIS} or newer.")
    else:
        yield fine(AREA, f"{name} {version} answers.")
    yield clock(AREA, name, datetime.fromtimestamp(seconds + microseconds / 1e6, UTC), before, after)
    yield from _redis_duties(info, name)
    yield from _redis_password(settings)


def _redis_duties(info: dict[str, Any], name: str) -> Iterator[Finding]:
    if info.get("role") in ("slave", "replica"):
        yield problem(AREA, f"{name} is a replica and accepts no writes.", "Name the primary in REDIS_URL.")
    policy, limited = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0)) > 0
    if policy != "noeviction":
        make = problem if limited else warning
        yield make(AREA, f"{name} may evict jobs and locks when it is full ({policy}).", "Set maxmemory-policy noeviction.")
    else:
        yield fine(AREA, f"{name} never evicts jobs (noeviction).")
    if info.get("rdb_last_bgsave_status") == "err" or info.get("aof_last_write_status") == "err":
        yield problem(
            AREA,
            f"{name} can't write to its disk and may refuse jobs.",
            "Check its log: the disk may be full, or permissions missing.",
        )
    elif not info.get("aof_enabled") and not int(info.get("rdb_last_save_time", 0)):
        yield warning(AREA, f"{name} does not persist its data.", "Set appendonly yes.")
    else:
        how = "appendonly" if info.get("aof_enabled") else "snapshots"
        yield fine(AREA, f"{name} persists ({how}); what it loses is queued again from PostgreSQL within a minute.")


def _redis_password(settings: Settings) -> Iterator[Finding]:
    parts = urlsplit(settings.redis_url)
    if parts.scheme == "unix" or parts.password:
        return
    where = parts.hostname or "localhost"
    if _is_near(where):
        addresses = _open_addresses()
        if not addresses:
            return
        where = f"{where} (it listens on {', '.join(addresses)})"
    yield warning(
        AREA,
        f"Redis at {where} asks for no password and can be reached from other machines: whoever connects can start "
        "and stop jobs, and lock admins out of signing in.",
        "Set requirepass there, and redis://:PASSWORD@HOST here; use rediss:// over networks that others share.",
    )


def _open_addresses() -> list[str]:
    """Return the non-local addresses on which a Redis without a password listens; none if it doesn't say."""
    try:
        said = queue.connection().config_get("bind", "protected-mode")
    except RedisError:
        return []
    if said.get("protected-mode") != "no":
        return []
    bound = str(said.get("bind", "")).replace("-", "").split() or ["every address"]
    return [address for address in bound if not _is_near(address)]


def _is_near(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def look_at_processes(settings: Settings) -> Iterator[Finding]:
    """Yield the findings on worker, scheduler, schedules and messages."""
    yield from _same_settings(settings)
    for check in health.checks():
        if check.name in LEFT_OUT:
            continue
        yield fine(check.name, check.detail) if check.ok else problem(check.name, check.detail, ADVICE.get(check.name, ""))
    try:
        yield from _practice()
        yield from _tokens()
        yield from _audit()
    except SQLAlchemyError:
        db.session.rollback()


def _same_settings(settings: Settings) -> Iterator[Finding]:
    """Compare our settings with those that the running processes read."""
    changed = sorted(settings.changed_files())
    if changed:
        yield problem("settings", f"{', '.join(changed)} changed during this check.", "Run it again.")
    running = settings_watch.reports(queue.connection())
    ours = settings_watch.fingerprints(settings)
    found = False
    for report in running:
        names = settings_watch.differing(ours, report.fingerprints)
        harmful = [name for name in names if name not in settings_watch.HARMLESS]
        if not names:
            continue
        found = True
        yield (problem if harmful else warning)(
            "settings",
            f"The {report.kind} on {report.host} (process {report.pid}, started {report.started:%Y-%m-%d %H:%M} UTC) uses "
            f"another {', '.join(names)} than this command.",
            RESTART,
        )
    kinds = sorted({report.kind for report in running})
    if kinds and not found:
        yield fine("settings", f"{', '.join(kinds).capitalize()} use the same settings as this command.")


def _tokens() -> Iterator[Finding]:
    for row in tokens.ending():
        yield warning(
            "tokens", attention.token_words(row), "Create another with `flask token create`, and give it to the program."
        )


def _audit() -> Iterator[Finding]:
    found = audit_chain.verify()
    if found.problem is not None:
        yield problem("audit log", found.problem, "Find out who can write to the metadata database besides this software.")
    else:
        yield fine("audit log", f"Its chain of {found.entries} entries is intact.")


def _practice() -> Iterator[Finding]:
    enabled = select(func.count()).where(BackupSchedule.enabled, BackupSchedule.deleted_at.is_(None))
    if not db.session.scalar(enabled):
        yield warning(
            "schedules",
            "No schedule is enabled: backups are only made manually.",
            "Schedules, New: start with one daily schedule.",
        )
    tested = db.session.scalar(select(func.max(BackupHistory.restore_tested_at)))
    made = db.session.scalar(select(func.min(BackupHistory.finished_at)).where(BackupHistory.status == "completed"))
    advice = "Prove one: `flask backup verify --restore ID` restores it into a scratch database and counts its rows."
    if tested is not None and utcnow() - tested > RESTORE_TEST_DUE:
        yield warning("restore_test", f"No backup was restored for a test since {tested:%Y-%m-%d}.", advice)
    elif tested is not None:
        yield fine("restore_test", f"A backup was restored for a test on {tested:%Y-%m-%d}.")
    elif made is not None:
        yield warning("restore_test", "No backup was ever restored for a test.", advice)


def look_at_mail(settings: Settings) -> Iterator[Finding]:
    """Yield whether a mail could be sent, and whether anybody would get one."""
    try:
        row = settings_row.row()
        heard = bool(row.recipients and settings.smtp_url) or bool(stored.channels()) or bool(row.heartbeat_sealed)
        recipients = list(row.recipients)
    except SQLAlchemyError:
        db.session.rollback()
        return
    if recipients and not settings.smtp_url:
        yield problem("SMTP_URL", "There are recipients for mail, but no server to send it.", "Set SMTP_URL and MAIL_FROM.")
    if not heard:
        yield warning(
            "notifications",
            "Nobody would be notified of a failed backup: there is no recipient, channel or heartbeat.",
            "Settings, Notifications: add one, and send a test.",
        )
    if settings.smtp_url:
        try:
            delivery.check_server(settings.smtp_url)
            yield fine("SMTP_URL", "The mail server answers and accepts the password.")
        except delivery.Undelivered as error:
            yield problem(
                "SMTP_URL", str(error), "Check host, port, user and password; mail is queued and retried for 3 days."
            )
