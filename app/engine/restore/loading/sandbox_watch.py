"""What an untrusted dump may use up while it is loaded: time and disk. Watched by a second connection.

A session can reset its own statement_timeout, and code in it can catch a cancel: so another session looks on, and ends it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import LiteralString, Self

import psycopg

from ...errors import EngineError
from ...source.postgres import Connection

LOOK_SECONDS = 0.5
LOOK_SHARE = 10
"""Between two looks at a large database's size passes at least so many times what the last one took."""

_SIZE: LiteralString = "SELECT pg_database_size(oid) AS bytes FROM pg_database WHERE datname = %s"
_END: LiteralString = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = (SELECT oid FROM pg_roles WHERE rolname = %s)
"""
# For pg_monitor and superusers. A session's files for sorting have its process in their name.
_TEMPORARY: LiteralString = """
SELECT COALESCE(sum(t.size), 0)::bigint AS bytes FROM pg_stat_activity a, pg_ls_tmpdir() t
WHERE a.usesysid = (SELECT oid FROM pg_roles WHERE rolname = %s) AND t.name ~ ('^pgsql_tmp' || a.pid || '\\.')
"""


@dataclass(frozen=True)
class Budget:
    """`silent_seconds` may pass without the next statement or row, and a second more for each `bytes_each_second` of what is
    loaded; all in all `seconds`. The database may grow by `size_bytes`."""

    silent_seconds: float
    seconds: float
    size_bytes: int
    bytes_each_second: int = 1024 * 1024


SIZE_AT_LEAST = 512 * 1024**2
SIZE_FACTOR = 64
SLOWEST_BYTES_EACH_SECOND = 256 * 1024
SILENCES = 3


def budget_for(sql_bytes: int, stall_seconds: float) -> Budget:
    """Return what a dump of so many bytes of text may use.

    Rows of one letter with three indexes take 32 times their text on disk, an empty table about as much; the slowest
    servers load a dump at one MB/s.
    """
    return Budget(
        silent_seconds=stall_seconds,
        seconds=SILENCES * stall_seconds + sql_bytes / SLOWEST_BYTES_EACH_SECOND,
        size_bytes=SIZE_AT_LEAST + SIZE_FACTOR * sql_bytes,
    )


class SandboxWatch:
    """While entered, ends the sandbox role's sessions when its budget is used up; `reason` says then what for.

    `connect` opens a maintenance connection as our own role. Raise EngineError if that fails.
    """

    def __init__(self, connect: Callable[[], Connection], role: str, database: str, budget: Budget) -> None:
        self._connect = connect
        self._role = role
        self._database = database
        self._budget = budget
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="sandbox-watch", daemon=True)
        self._sees_temporary = True
        self.reason = ""

    def __enter__(self) -> Self:
        self._connection = self._connect()
        try:
            self._size_before = self._size = self._measured()
        except BaseException:
            self._connection.close()
            raise
        self._began = self._moved = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._connection.close()

    def moved(self) -> None:
        """Note that the next statement begins, or that rows were taken."""
        self._moved = time.monotonic()

    def end(self) -> None:
        """End the role's sessions at once: a cancel can be caught by what they execute."""
        with contextlib.suppress(psycopg.Error):
            self._connection.execute(_END, [self._role])

    def _watch(self) -> None:
        pause = LOOK_SECONDS
        while not self._over.wait(pause):
            began = time.monotonic()
            try:
                self._size = self._measured()
                self.reason = self.reason or self._exceeded()
                if self.reason:
                    self._connection.execute(_END, [self._role])
            except (psycopg.Error, EngineError) as error:
                # Unwatched nothing goes on. Where the server is away, so is the session.
                self.reason = self.reason or f"The watch over the untrusted archive's SQL has failed: {error}"
                self._end_anyhow()
                return
            pause = max(LOOK_SECONDS, (time.monotonic() - began) * LOOK_SHARE)

    def _end_anyhow(self) -> None:
        with contextlib.suppress(psycopg.Error, EngineError), self._connect() as another:
            another.execute(_END, [self._role])

    def _measured(self) -> int:
        row = self._connection.execute(_SIZE, [self._database]).fetchone()
        return (int(row["bytes"]) if row and row["bytes"] is not None else 0) + self._temporary()

    def _temporary(self) -> int:
        if self._sees_temporary:
            try:
                row = self._connection.execute(_TEMPORARY, [self._role]).fetchone()
                return int(row["bytes"]) if row else 0
            except psycopg.errors.InsufficientPrivilege:
                self._sees_temporary = False
        return 0

    def _exceeded(self) -> str:
        now, budget = time.monotonic(), self._budget
        grown = self._size - self._size_before
        advice = (
            "It was ended, and nothing was changed. If this archive is what it should be, trust it: then it has no limits."
        )
        if grown > budget.size_bytes:
            return (
                f"The archive's SQL has made a database of {grown // 1_000_000} MB, which is out of proportion to its text. "
                + advice
            )
        if now - self._moved > budget.silent_seconds + grown / budget.bytes_each_second:
            return f"A statement of the archive's SQL ran for {now - self._moved:.0f} s without an end. {advice}"
        if now - self._began > budget.seconds:
            return (
                f"The archive's SQL ran for {(now - self._began) / 60:.0f} minutes, out of proportion to its text. {advice}"
            )
        return ""
