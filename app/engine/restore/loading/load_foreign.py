"""Fills the staging database from a dump that is not provably ours, as a role that may do nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import LiteralString

import psycopg
from psycopg import pq

from ...dump.dump_splitter import CopyBegin, DumpSplitter, Event, Rows, Sql
from ...dump.sql_scanner import Statement
from ...errors import DumpError, RestoreError
from ...progress import Meter
from ...source.names import quoted
from ...source.postgres import Connection
from ...system.memory import memory_limited
from .code_survey import CodeSurvey
from .load_plan import planner_statistics
from .sandbox_watch import SandboxWatch
from .sql_loader import (
    DISPENSABLE,
    OWNER_TO,
    TABLESPACE,
    EventLoader,
    execute,
    failed,
    is_command,
    use_tablespace,
)

_LEFT_OUT = re.compile(
    OWNER_TO + rb"|(?:GRANT\b|REVOKE\b|ALTER DEFAULT PRIVILEGES\b|SET SESSION AUTHORIZATION\b"
    rb"|COMMENT ON EXTENSION\b|COMMENT ON SCHEMA public\b|ALTER SCHEMA public\b|SET default_tablespace\b)",
    re.DOTALL | re.IGNORECASE,
)
_MAY_FAIL_SANDBOXED = re.compile(
    rb"(?:SECURITY LABEL\b|(?:CREATE|ALTER) PUBLICATION\b|COMMENT ON (?:PUBLICATION|EVENT TRIGGER)\b)", re.IGNORECASE
)
"""What an honest dump has and the sandbox role may not do, without which the rest is whole."""

_MAY_FAIL = re.compile(OWNER_TO + rb"|" + DISPENSABLE, re.DOTALL | re.IGNORECASE)
_VERSION = re.compile(rb"^-- Dumped from database version (\d+)", re.MULTILINE)
_IS_PARTITIONED: LiteralString = """
SELECT relkind = 'p' AS partitioned FROM pg_catalog.pg_class
WHERE oid = pg_catalog.to_regclass(pg_catalog.convert_from(%s, pg_catalog.pg_client_encoding()))
"""
LONGEST_STATEMENT = 32 * 1024 * 1024
MOST_TABLES = 100_000
LONGEST_NAME = 255
"""Of a table in an untrusted dump; PostgreSQL's own limit, unless it was built for more, is 63 bytes."""

MOST_WARNINGS = 1000
_REFUSALS = (
    psycopg.errors.UndefinedObject,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.InvalidParameterValue,
)
SESSION = "SET statement_timeout = '1h'; SET lock_timeout = '1min'; SET check_function_bodies = off"


_ROWS = re.compile(rb"\s*+(?:SELECT|WITH|VALUES|TABLE|CALL|EXECUTE|FETCH|SHOW|EXPLAIN|\()", re.IGNORECASE)
_RETURNING = re.compile(rb"\bRETURNING\b", re.IGNORECASE)
SESSION_MEMORY = 256 * 1024**2
"""Bytes by which the process may grow while it executes an untrusted dump: the server may be made to send any row, notice
or error, of up to a gigabyte, and libpq keeps it whole."""


class DumpLoader:
    """Execute a plain dump as the sandbox role, under its watch, or as our own role if the archive is trusted.

    In the sandbox owners and grants in it are left out. Raise RestoreError unless all of it is executed and complete.
    """

    def __init__(self, connection: Connection, meter: Meter, watch: SandboxWatch | None) -> None:
        self._connection = connection
        self._meter = meter
        self._watch = watch
        self.warnings: list[str] = []
        self.rows: dict[tuple[str, str], int] = {}
        self.encoding = ""
        """The client_encoding that the dump has left: that of its names."""

    def load(self, text: Iterator[bytes]) -> None:
        """Execute the dump's text to its end."""
        if self._watch is None:
            self._load(text)
            return
        try:
            with memory_limited(SESSION_MEMORY):
                self._load(text)
        except (psycopg.Error, RestoreError) as error:
            if self._watch.reason:
                raise RestoreError(self._watch.reason) from error
            raise
        except (MemoryError, ValueError) as error:  # psycopg takes libpq's out-of-memory result for one too many
            raise RestoreError(
                f"The archive's SQL had the server send more than {SESSION_MEMORY // 1024**2} MB at once, which no pg_dump "
                "does; it was refused."
            ) from error

    def _load(self, text: Iterator[bytes]) -> None:
        sandboxed = self._watch is not None
        self._connection.execute(SESSION)
        splitter, loader = (
            DumpSplitter(LONGEST_STATEMENT if sandboxed else None),
            EventLoader(self._connection, self._run, self._meter, self._watch.end if self._watch else None),
        )
        try:
            for chunk in text:
                for event in splitter.feed(chunk):
                    if self._watch is not None:
                        self._watch.moved()
                    loader.take(event)
                self._meter.add(len(chunk))
            for event in splitter.finish():
                loader.take(event)
        except DumpError as error:
            raise RestoreError(f"The dump in the archive is not complete: {error}") from error
        loader.finish()
        self.rows = loader.rows
        self.encoding = self._connection.pgconn.parameter_status(b"client_encoding").decode()  # type: ignore[union-attr]
        if self._connection.info.transaction_status != pq.TransactionStatus.IDLE:
            raise RestoreError("The dump leaves a transaction open, which no pg_dump does; it was refused.")

    def _run(self, statement: bytes) -> None:
        if planner_statistics(statement) or (self._watch is not None and _LEFT_OUT.match(statement)):
            return  # what the planner is to know is found by ANALYZE, and not believed
        if TABLESPACE.match(statement):
            warning = use_tablespace(self._connection, statement)
            if warning is not None and warning not in self.warnings:
                self.warnings.append(warning)
            return
        try:
            if self._watch is not None:
                self._watch.moved()
                self._run_alone(statement)
            else:
                execute(self._connection, statement)
        except _REFUSALS as error:
            if not self._may_fail(statement):
                raise
            if len(self.warnings) < MOST_WARNINGS:
                self.warnings.append(f"Left out: {failed(statement, error)}")

    def _may_fail(self, statement: bytes) -> bool:
        if self._watch is not None:
            return _MAY_FAIL_SANDBOXED.match(statement) is not None
        return _MAY_FAIL.match(statement) is not None or _LEFT_OUT.match(statement) is not None

    def _run_alone(self, statement: bytes) -> None:
        """Execute an untrusted statement by the extended query protocol: never two that look like one, and no results but
        its own, which are dropped row by row."""
        try:
            if not (_ROWS.match(statement) or _RETURNING.search(statement)):
                # Asking for binary results has psycopg use the extended protocol.
                self._connection.execute(statement, prepare=False, binary=True)
                return
            with self._connection.cursor() as cursor:
                for _ in cursor.stream(statement, binary=True):
                    pass
        except psycopg.ProgrammingError as error:
            if error.sqlstate is not None or self._connection.info.transaction_status == pq.TransactionStatus.ACTIVE:
                raise
            # Of psycopg's own: the statement was one without rows, such as a CALL.


def count_rows(connection: Connection, schema: str, table: str) -> int | None:
    """Count the rows of a table of the role's own, without those of tables that inherit from it. Names are as in the dump.

    The session's client_encoding must be the dump's. Return None if its policies apply to its owner
    too, so that only a superuser could count them.
    """
    name = quoted(schema, table)
    row = connection.execute(_IS_PARTITIONED, [name]).fetchone()
    only = b"" if row and row["partitioned"] else b"ONLY "
    try:
        row = connection.execute(b"SELECT count(*) AS rows FROM " + only + name).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    return int(row["rows"]) if row else None


class DumpSurvey:
    """Reads a plain dump without executing it: its tables with rows, the code that it brings, the server's version."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], int] = {}
        self.code = CodeSurvey()
        self.version: int | None = None
        self.bytes = 0
        self._table = ("", "")

    def read(self, text: Iterator[bytes]) -> None:
        """Survey a dump's text to its end. Raise RestoreError unless it is complete."""
        splitter = DumpSplitter(LONGEST_STATEMENT, self._note)
        try:
            for chunk in text:
                self.bytes += len(chunk)
                self._take(splitter.feed(chunk))
            self._take(splitter.finish())
        except DumpError as error:
            raise RestoreError(f"The dump in the archive is not complete: {error}") from error

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Sql):
                self._note_version(event.text)
            elif isinstance(event, CopyBegin):
                self._table = (event.schema, event.table)
                self.rows.setdefault(self._table, 0)
                if len(self.rows) > MOST_TABLES or max(map(len, self._table)) > LONGEST_NAME:
                    raise RestoreError(
                        f"The dump fills more than {MOST_TABLES} tables, or one with a name of more than {LONGEST_NAME} "
                        "characters; it was refused."
                    )
            elif isinstance(event, Rows):
                self.rows[self._table] += event.count

    def _note(self, statement: Statement) -> None:
        if not is_command(statement):
            self.code.note(statement.text)

    def _note_version(self, text: bytes) -> None:
        if self.version is None and (match := _VERSION.search(text)):
            self.version = int(match[1])
