"""The locks of a web process's uploads and downloads: many advisory locks on one connection, so that slow clients don't use
up the server's connections.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from flask import current_app

from app.runs import locks


class TransferLocks:
    """The transfer locks of one process. Their connection is open only while at least one of them is held."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._guard = threading.Lock()
        self._connection: psycopg.Connection | None = None
        self._held = 0

    def acquire(self, name: str, shared: bool) -> TransferLock | None:
        """Take a lock, or return None if another connection has it.

        Raise psycopg.OperationalError if the metadata database can't be reached.
        """
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
        """Release a lock that was taken on this connection; one that ended with an older connection is gone already."""
        with self._guard:
            if connection is not self._connection:
                return
            self._held -= 1
            function = "pg_advisory_unlock_shared" if shared else "pg_advisory_unlock"
            try:
                connection.execute(f"SELECT {function}(%s)", [locks.key(name)])
            except psycopg.Error:
                self._drop()
            if self._held == 0:
                self._drop()

    def _try(self, name: str, shared: bool) -> bool:
        if self._connection is None:
            self._connection = locks.connect(self._dsn, "lock transfers")
        return locks.try_lock(self._connection, name, shared)

    def _drop(self) -> None:
        connection, self._connection, self._held = self._connection, None, 0
        if connection is not None:
            connection.close()


class TransferLock:
    """The lock of an upload or a download, held until `release` or the end of the process."""

    def __init__(self, transfers: TransferLocks, connection: psycopg.Connection, name: str, shared: bool) -> None:
        self._transfers, self._connection, self._name, self._shared = transfers, connection, name, shared

    def release(self) -> None:
        """Release the lock. To be called once."""
        self._transfers.release(self._connection, self._name, self._shared)


def acquire(name: str, shared: bool = False) -> TransferLock | None:
    """Take a lock for as long as a client sends or receives, or return None if another process has it.

    Raise psycopg.OperationalError if the metadata database can't be reached.
    """
    transfers: TransferLocks = current_app.extensions["transfer_locks"]
    return transfers.acquire(name, shared)


@contextmanager
def holding(name: str) -> Iterator[None]:
    """Hold a lock for the block, which runs even if the lock was taken: it only shows others that somebody is at work."""
    lock = acquire(name)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()
