"""PostgreSQL advisory locks on connections to the metadata database: when the process that holds one dies, the server sees
its connection end and frees it.

A job's locks have a connection each. The uploads and downloads of a web process share one.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from uuid import UUID

import psycopg
from flask import current_app
from sqlalchemy import text

from app import current
from app.extensions import db

# Held while an archive is written: one backup at a time.
WRITER = "backup:writer"
# What is backed up and restored: shared by whoever reads it, exclusive for whoever changes it.
SOURCE = "source"
# Held while lost runs are closed: one container at a time.
RECONCILE = "backup:reconcile"
# Taken for the moment between looking for a running manual backup and inserting one.
START = "backup:start"
# Taken while it is decided which schedules are due: one container at a time.
SCHEDULES = "backup:schedules"
# Held while old backups are deleted: one container at a time.
CLEANUP = "backup:cleanup"
# Held while an uploaded archive is checked: one at a time.
CHECKER = "upload:checker"
# Taken for the moment between looking for the same archive and listing an uploaded one.
UPLOAD = "backup:upload"
# Taken for the moment between looking for an admin and making the first one.
FIRST_ADMIN = "admins:first"
# Taken for the moment between looking for who remains and disabling or removing an admin.
ADMINS = "admins:change"

# Taken while entries of the audit log are sealed or cut: one container at a time.
AUDIT = "audit:chain"

# Cleaning up takes the source's lock for a moment: who finds it taken asks again for so many seconds.
BRIEFLY = 5.0
POLL_SECONDS = 0.1

KEEPALIVE = {"keepalives": 1, "keepalives_idle": 15, "keepalives_interval": 5, "keepalives_count": 3}


def run_name(backup_id: UUID) -> str:
    """Given a backup, return the name of the lock that its worker holds while it lives."""
    return f"backup:run:{backup_id}"


def restore_name(restore_id: UUID) -> str:
    """Given a restore, return the name of the lock that its worker holds while it lives."""
    return f"restore:run:{restore_id}"


def verify_name(backup_id: UUID) -> str:
    """Return the name of the lock that the worker holds which verifies a backup."""
    return f"backup:verify:{backup_id}"


def archive_name(backup_id: UUID) -> str:
    """Given a backup, return the name of its archive's lock: shared by readers, exclusive for deleting."""
    return f"backup:archive:{backup_id}"


def key(name: str) -> int:
    """Given a lock's name, return the signed 64-bit number that PostgreSQL knows it by."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)


class LockLost(Exception):
    """The connection that held the lock broke, and another process has the lock now."""


class Lock:
    """An advisory lock that is held, until `release` or the end of the process."""

    def __init__(self, name: str, connection: psycopg.Connection, shared: bool, owner: UUID | None = None) -> None:
        self.name = name
        self._owner = owner
        self._connection = connection
        self._shared = shared

    def ensure(self) -> None:
        """Make sure that the lock is still held, taking it again if its connection broke. Raise LockLost if another
        process has it by now, or psycopg.Error if the server can't be reached."""
        try:
            self._connection.execute("SELECT 1")
        except psycopg.Error:
            self._connection.close()
            again = acquire(self.name, shared=self._shared, owner=self._owner)
            if again is None:
                raise LockLost(f"The lock {self.name} was lost to another process.") from None
            self._connection = again._connection

    def release(self) -> None:
        """Give the lock back. Its connection is closed.

        Unlocked by name first: the server notices a closed connection a moment later, and whoever asks next is refused.
        """
        with suppress(psycopg.Error):
            self._connection.execute("SELECT pg_advisory_unlock_all()")
        with suppress(psycopg.Error):
            self._connection.close()


def acquire(name: str, shared: bool = False, patience: float = 0.0, owner: UUID | None = None) -> Lock | None:
    """Given a lock's name, take it and return it, or None if another still has it after `patience` seconds. `owner`: the
    backup for whose sake, so that `evict` finds it.

    Raise psycopg.OperationalError if the metadata database can't be reached.
    """
    settings = current.settings()
    connection = _connect(settings.metadata_dsn, f"lock {name} {owner}" if owner else f"lock {name}")
    try:
        until = time.monotonic() + patience
        while not (taken := _try_lock(connection, name, shared)) and time.monotonic() < until:
            time.sleep(POLL_SECONDS)
    except BaseException:
        connection.close()
        raise
    if taken:
        return Lock(name, connection, shared, owner)
    connection.close()
    return None


def _connect(dsn: str, label: str) -> psycopg.Connection:
    return psycopg.connect(dsn, autocommit=True, connect_timeout=5, application_name=label[:63], **KEEPALIVE)


def _try_lock(connection: psycopg.Connection, name: str, shared: bool) -> bool:
    function = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
    return connection.execute(f"SELECT {function}(%s)", [key(name)]).fetchone() == (True,)


class Transfers:
    """The locks of one process's uploads and downloads: all on one connection, which is open only while one is held."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._guard = threading.Lock()
        self._connection: psycopg.Connection | None = None
        self._held = 0

    def acquire(self, name: str, shared: bool) -> TransferLock | None:
        """Take a lock, or return None if another connection has it. Raise psycopg.OperationalError if the metadata
        database can't be reached."""
        with self._guard:
            had_one = self._connection is not None
            try:
                taken = self._try(name, shared)
            except psycopg.OperationalError:
                self._drop()
                if not had_one:
                    raise
                # The server restarted since the last one, and the locks went with it.
                taken = self._try(name, shared)
            if taken:
                self._held += 1
                assert self._connection is not None
                return TransferLock(self, self._connection, name, shared)
            if self._held == 0:
                self._drop()
            return None

    def release(self, connection: psycopg.Connection, name: str, shared: bool) -> None:
        """Give back a lock that was taken on this connection."""
        with self._guard:
            if connection is not self._connection:
                return
            self._held -= 1
            function = "pg_advisory_unlock_shared" if shared else "pg_advisory_unlock"
            try:
                connection.execute(f"SELECT {function}(%s)", [key(name)])
            except psycopg.Error:
                self._drop()
            if self._held == 0:
                self._drop()

    def _try(self, name: str, shared: bool) -> bool:
        if self._connection is None:
            self._connection = _connect(self._dsn, "lock transfers")
        return _try_lock(self._connection, name, shared)

    def _drop(self) -> None:
        connection, self._connection, self._held = self._connection, None, 0
        if connection is not None:
            connection.close()


class TransferLock:
    """A lock of an upload or a download, until `release` or the end of the process."""

    def __init__(self, transfers: Transfers, connection: psycopg.Connection, name: str, shared: bool) -> None:
        self._transfers, self._connection, self._name, self._shared = transfers, connection, name, shared

    def release(self) -> None:
        """Give the lock back, once."""
        self._transfers.release(self._connection, self._name, self._shared)


def acquire_for_transfer(name: str, shared: bool = False) -> TransferLock | None:
    """Take a lock for as long as a client sends or receives, or return None if another has it. All of a process's
    transfers share one connection: slow clients must not take up all that the server has.

    Raise psycopg.OperationalError if the metadata database can't be reached.
    """
    transfers: Transfers = current_app.extensions["transfer_locks"]
    return transfers.acquire(name, shared)


@contextmanager
def transferring(name: str) -> Iterator[None]:
    """Hold a lock that nobody else wants for as long as a client sends what it protects."""
    lock = acquire_for_transfer(name)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def holding(name: str, shared: bool = False, patience: float = 0.0) -> Iterator[Lock | None]:
    """Given a lock's name, hold it for the block; the block gets None if another still has it after `patience` seconds."""
    lock = acquire(name, shared, patience)
    try:
        yield lock
    finally:
        if lock is not None:
            lock.release()


def try_in_transaction(name: str) -> bool:
    """Given a lock's name, take it until the session's transaction ends. Return whether it was free."""
    return bool(db.session.scalar(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": key(name)}))


def held(names: Iterable[str]) -> set[str]:
    """Given names of locks, return those that somebody holds, shared or not."""
    query = text(
        "SELECT (classid::bigint << 32) | objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND objsubid = 1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    keys = set(db.session.scalars(query))
    return {name for name in names if key(name) in keys} if keys else set()


def evict(backup_id: UUID) -> None:
    """Given a run that was given up while its process still lives, end its locks: it publishes nothing any more, and must
    not keep the next one waiting."""
    query = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name LIKE :ending AND pid <> pg_backend_pid()"
    )
    db.session.execute(query, {"ending": f"lock %{backup_id}"})


def in_transaction(name: str) -> None:
    """Given a lock's name, wait for it and keep it until the session's transaction ends."""
    db.session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key(name)})
