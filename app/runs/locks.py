"""Advisory locks in the metadata database. When a process that holds one dies, the server sees its connection end and frees
the lock.

Each lock here has a connection of its own. `transfer_locks` has those of a web process's uploads and downloads, which share
one, and `schedule_locks` the leases of schedules, which are in Redis.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import text

from app import current
from app.extensions import db

# Held while an archive is written: one backup at a time.
WRITER = "backup:writer"
# The database and documents that are backed up: shared by those who read them, exclusive for whoever replaces them.
SOURCE = "source"
# Held while lost runs are closed: one container at a time.
RECONCILE = "backup:reconcile"
# Taken for the moment between checking that no backup or restore is running and inserting one.
START = "backup:start"
# Taken while it is decided which schedules are due: one container at a time.
SCHEDULES = "backup:schedules"
# Held while old backups are deleted: one container at a time.
CLEANUP = "backup:cleanup"
# Held while an uploaded archive is checked: one at a time.
CHECKER = "upload:checker"
# Taken for the moment between checking that an archive is not listed yet and listing it.
UPLOAD = "backup:upload"
# Taken for the moment between checking that there is no admin and creating the first one.
FIRST_ADMIN = "admins:first"
# Taken for the moment between checking that another admin remains and disabling or removing one.
ADMINS = "admins:change"
# Taken while entries of the audit log are sealed or cut: one container at a time.
AUDIT = "audit:chain"

# Cleanup holds the lock SOURCE for a moment, so whoever finds it taken keeps asking for this many seconds.
BRIEFLY = 5.0
POLL_SECONDS = 0.1

KEEPALIVE: dict[str, Any] = {"keepalives": 1, "keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}


def run_name(backup_id: UUID) -> str:
    """Return the name of the lock that the worker of a backup holds while it lives."""
    return f"backup:run:{backup_id}"


def restore_name(restore_id: UUID) -> str:
    """Return the name of the lock that the worker of a restore holds while it lives."""
    return f"restore:run:{restore_id}"


def verify_name(backup_id: UUID) -> str:
    """Return the name of the lock that a worker holds while it verifies a backup."""
    return f"backup:verify:{backup_id}"


def archive_name(backup_id: UUID) -> str:
    """Return the name of the lock on a backup's archive: shared by readers, exclusive for deletion."""
    return f"backup:archive:{backup_id}"


def key(name: str) -> int:
    """Return the signed 64-bit number by which PostgreSQL knows a lock."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


class LockLost(Exception):
    """The connection that held the lock broke, and another process has taken the lock since."""


class Lock:
    """An advisory lock, held until `release` or the end of the process."""

    def __init__(self, name: str, connection: psycopg.Connection, shared: bool, owner: UUID | None = None) -> None:
        self.name = name
        self._owner = owner
        self._connection = connection
        self._shared = shared

    def ensure(self) -> None:
        """Check that the lock is still held, and take it again if its connection broke.

        Raise LockLost if another process has taken it since, or psycopg.Error if the server can't be reached.
        """
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            self._connection.close()
            again = acquire(self.name, shared=self._shared, owner=self._owner)
            if again is None:
                raise LockLost(f"The lock {self.name} was lost to another process.") from None
            self._connection = again._connection

    def release(self) -> None:
        """Release the lock and close its connection.

        The lock is released explicitly first: the server notices a closed connection a moment later, and would refuse
        whoever asks in between.
        """
        with suppress(psycopg.Error):
            self._connection.execute("SELECT pg_advisory_unlock_all()")
        with suppress(psycopg.Error):
            self._connection.close()


def acquire(name: str, shared: bool = False, patience: float = 0.0, owner: UUID | None = None) -> Lock | None:
    """Take a lock. Return None if another process still has it after `patience` seconds.

    `owner` is the backup that needs the lock, so that `evict` can find it. Raise psycopg.OperationalError if the metadata
    database can't be reached.
    """
    label = f"lock {name} {owner}" if owner else f"lock {name}"
    connection = connect(current.settings().metadata_dsn, label)
    try:
        until = time.monotonic() + patience
        while not (taken := try_lock(connection, name, shared)) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
    except BaseException:
        connection.close()
        raise
    if taken:
        return Lock(name, connection, shared, owner)
    connection.close()
    return None


def connect(dsn: str, label: str) -> psycopg.Connection:
    """Open a connection for locks. The server shows it under its label, cut to 63 characters."""
    return psycopg.connect(dsn, autocommit=True, connect_timeout=5, application_name=label[:63], **KEEPALIVE)


def try_lock(connection: psycopg.Connection, name: str, shared: bool) -> bool:
    """Take a lock on a connection if it is free. Return whether it was."""
    function = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
    return connection.execute(f"SELECT {function}(%s)", [key(name)]).fetchone() == (True,)


@contextmanager
def holding(name: str, shared: bool = False, patience: float = 0.0) -> Iterator[Lock | None]:
    """Hold a lock for the block, which gets None if another process still has it after `patience` seconds."""
    lock = acquire(name, shared, patience)
    try:
        yield lock
    finally:
        if lock is not None:
            lock.release()


def in_transaction(name: str) -> None:
    """Wait for a lock, and keep it until the session's transaction ends."""
    db.session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key(name)})


def try_in_transaction(name: str) -> bool:
    """Take a lock until the session's transaction ends. Return whether it was free."""
    return bool(db.session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": key(name)}))


def held(names: Iterable[str]) -> set[str]:
    """Return those of the locks that somebody holds, shared or exclusively."""
    query = text(
        "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    keys = set(db.session.scalars(query))
    return {name for name in names if key(name) in keys} if keys else set()


def evict(backup_id: UUID) -> None:
    """End the locks of a run that was given up although its process still lives.

    Without them it can't publish anything, and it no longer keeps the next run waiting.
    """
    query = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE :ending AND pid <> pg_backend_pid()"
    )
    db.session.execute(query, {"ending": f"lock %{backup_id}"})
