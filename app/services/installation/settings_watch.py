"""Track which settings the running processes use, so that none keeps using outdated ones.

A process reads its settings once, when it starts. Whoever changes them expects all processes to follow, so a process whose
NAME_FILE has changed exits, to be restarted. What it can't notice, a changed variable in an environment file of systemd, is
compared by `flask doctor`: each process reports to Redis a fingerprint of every setting, keyed by SECRET_KEY.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
import socket
import threading
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from urllib.parse import urlsplit

import structlog
from redis import Redis
from redis.exceptions import RedisError

from app.config import Settings, derive_signing_key

logger = structlog.get_logger(__name__)

# EX_TEMPFAIL: not a success, so that a supervisor that restarts only after failures restarts it, too.
EXIT_SETTINGS_CHANGED = 75
CHECK_SECONDS = 5.0
REPORTS_KEY = "backup:processes"
# By Redis' clock.
REPORT_SECONDS = 90
# Settings that may differ between processes without changing what is backed up or restored.
HARMLESS = {"LOG_FORMAT", "METRICS_ALLOW", "PG_BIN_DIR", "RATE_LIMIT_FACTOR", "TRUSTED_PROXY_HOPS"}
_FIELDS = {
    "database_url": "DATABASE_URL",
    "redis_url": "REDIS_URL",
    "signing_key_text": "BACKUP_SIGNING_KEY",
    "source_url": "BACKUP_SOURCE_URL",
    "documents_dir": "BACKUP_DOCUMENTS_DIR",
    "storage_dir": "BACKUP_STORAGE_DIR",
    "app_name": "BACKUP_APP_NAME",
    "upload_max_bytes": "BACKUP_UPLOAD_MAX_BYTES",
    "undo_hours": "BACKUP_UNDO_HOURS",
}


@dataclass(frozen=True)
class Report:
    """The report of a running process. `fingerprints` maps a setting's name to a digest of its value."""

    kind: str
    host: str
    pid: int
    started: datetime
    fingerprints: dict[str, str]

    @property
    def field(self) -> str:
        """The report's field in the Redis hash of all reports."""
        return f"{self.kind}:{self.host}:{self.pid}"


def fingerprints(settings: Settings) -> dict[str, str]:
    """Return a digest of each setting, keyed so that nobody without SECRET_KEY can guess values by trial."""
    key = hmac.digest(settings.secret_key.encode(), b"motovaultpro-backup fingerprints of settings, version 1", "sha256")

    def digest(name: str, value: object) -> str:
        return hmac.new(key, f"{name}={value}".encode(), hashlib.sha256).hexdigest()[:16]

    found = {}
    for each in fields(settings):
        # An admin's address and password are used only while there is no admin.
        if each.name not in ("files", "secret_key", "admin_email", "admin_password"):
            name = _FIELDS.get(each.name, each.name.upper())
            found[name] = digest(name, getattr(settings, each.name))
    return found | {"SECRET_KEY": digest("SECRET_KEY", "")}


def differing(ours: dict[str, str], theirs: dict[str, str]) -> list[str]:
    """Return the names of the settings that differ. With another SECRET_KEY nothing else can be compared."""
    names = [name for name in ours if name in theirs and ours[name] != theirs[name]]
    return ["SECRET_KEY"] if "SECRET_KEY" in names else names


def outdated_source(settings: Settings) -> str | None:
    """Return why an archive made with these settings must not count as a backup of today, or None.

    A new password for the same database does not count.
    """
    changed = settings.changed_files()
    names = {"BACKUP_SIGNING_KEY"} & set(changed)
    if "SECRET_KEY" in changed and settings.signing_key_text == derive_signing_key(settings.secret_key):
        names.add("SECRET_KEY")
    if "BACKUP_SOURCE_URL" in changed and _database(changed["BACKUP_SOURCE_URL"]) != _database(settings.source_url):
        names.add("BACKUP_SOURCE_URL")
    if not names:
        return None
    return (
        f"{' and '.join(sorted(names))}: changed while this backup ran with the old setting. Its archive was "
        "discarded. Make another backup: it will use the new setting."
    )


def _database(url: str) -> tuple[object, ...]:
    parts = urlsplit(url)
    return parts.hostname, parts.port, parts.path, parts.query


class Watch:
    """Report this process's settings, and detect when their files change."""

    def __init__(self, kind: str, settings: Settings) -> None:
        self._settings = settings
        self._report = Report(kind, socket.gethostname(), os.getpid(), datetime.now(UTC), fingerprints(settings))
        self._noticed = False

    def changed(self) -> bool:
        """Return whether a setting's file changed since this process read it; log it the first time."""
        names = self._settings.changed_files()
        if names and not self._noticed:
            self._noticed = True
            logger.warning("settings changed; this process exits to be restarted with the new ones", settings=sorted(names))
        return bool(names)

    def report(self, redis: Redis) -> None:
        """Report to Redis which settings this process uses. Raise redis.RedisError."""
        own = self._report
        text = json.dumps(
            {"at": redis.time()[0], "kind": own.kind, "host": own.host, "pid": own.pid}
            | {"started": own.started.isoformat(), "fingerprints": own.fingerprints}
        )
        with redis.pipeline() as pipeline:
            pipeline.hset(REPORTS_KEY, own.field, text)
            pipeline.expire(REPORTS_KEY, REPORT_SECONDS)
            pipeline.execute()

    def withdraw(self, redis: Redis) -> None:
        """Remove the report, as this process exits."""
        try:
            redis.hdel(REPORTS_KEY, self._report.field)
        except RedisError:
            pass


def reports(redis: Redis) -> list[Report]:
    """Return the processes' reports of the last 90 seconds. Raise redis.RedisError."""
    found, old = [], []
    now = redis.time()[0]
    for key, text in redis.hgetall(REPORTS_KEY).items():
        try:
            read = json.loads(text)
            prints = {str(name): str(value) for name, value in read["fingerprints"].items()}
            started = datetime.fromisoformat(read["started"])
            report = Report(str(read["kind"]), str(read["host"]), int(read["pid"]), started, prints)
            fresh = now - int(read["at"]) < REPORT_SECONDS
        except (ValueError, KeyError, TypeError, AttributeError):
            # Another version wrote it.
            fresh = False
        if fresh:
            found.append(report)
        else:
            old.append(key)
    if old:
        redis.hdel(REPORTS_KEY, *old)
    return sorted(found, key=lambda report: (report.kind, report.host, report.pid))


def disagreements(settings: Settings, redis: Redis) -> list[tuple[Report, list[str]]]:
    """Return the running processes whose settings differ from these, with the settings' names. Raise redis.RedisError."""
    ours = fingerprints(settings)
    compared = [(report, differing(ours, report.fingerprints)) for report in reports(redis)]
    return [(report, names) for report, names in compared if names]


def watch_in_background(settings: Settings, redis: Redis) -> threading.Thread:
    """Report for a web process, and end it when its settings change: Gunicorn starts a new one, which reads them afresh, and
    running requests get its grace period. Other servers exit as a whole, to be restarted."""
    watch = Watch("web", settings)
    pause = threading.Event()

    def run() -> None:
        while not watch.changed():
            try:
                watch.report(redis)
            except RedisError:
                pass
            pause.wait(CHECK_SECONDS)
        watch.withdraw(redis)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=run, name="settings-watch", daemon=True)
    thread.start()
    return thread
