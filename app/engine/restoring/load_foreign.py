"""Filling the staging database from a dump that is not provably ours, as a role that may do nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import LiteralString

import psycopg
from psycopg import pq

from ..database.dump_splitter import CopyBegin, DumpSplitter, Event, Rows, Sql
from ..database.names import quoted
from ..database.sql_scanner import Statement
from ..errors import DumpError, RestoreError
from ..progress import Meter
from .load_plan import planner_statistics
from .sql_loader import (
    DISPENSABLE,
    OWNER_TO,
    TABLESPACE,
    Connection,
    EventLoader,
    excerpt,
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
_MAY_FAIL = re.compile(OWNER_TO + rb"|" + DISPENSABLE, re.DOTALL | re.IGNORECASE)
_CODE = re.compile(
    rb"CREATE\s+(?:OR\s+REPLACE\s+)?(?:CONSTRAINT\s+)?"
    rb"(FUNCTION|PROCEDURE|TRIGGER|RULE|POLICY|VIEW|"
    rb"MATERIALIZED VIEW|EVENT TRIGGER|"
    rb"AGGREGATE|OPERATOR|CAST|EXTENSION|PUBLICATION|SUBSCRIPTION|SERVER|FOREIGN DATA WRAPPER)\b|DO\b",
    re.IGNORECASE,
)
_VERSION = re.compile(rb"^-- Dumped from database version (\d+)", re.MULTILINE)
_IS_PARTITIONED: LiteralString = """
SELECT relkind = 'p' AS partitioned FROM pg_catalog.pg_class
WHERE oid = pg_catalog.to_regclass(pg_catalog.convert_from(%s, pg_catalog.pg_client_encoding()))
"""
LONGEST_STATEMENT = 32 * 1024 * 1024
MOST_TABLES = 100_000
LONGEST_NAME = 255
"""Of a table in a dump that nobody vouches for; PostgreSQL's own limit, unless it was built for more, is 63 bytes."""

_REFUSALS = (
    psycopg.errors.UndefinedObject,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.InvalidParameterValue,
)
_PREPARED: LiteralString = "SELECT FROM pg_catalog.pg_prepared_xacts WHERE database = pg_catalog.current_database()"
CODE_KEPT = 200
SESSION = "SET statement_timeout = '1h'; SET lock_timeout = '1min'; SET check_function_bodies = off"


def brings_code(statement: bytes) -> bool:
    """Given a statement, return whether it brings code that may run later: a function, a trigger, a view …"""
    return _CODE.match(statement) is not None


class DumpLoader:
    """Given a connection as the sandbox role (or, for a trusted archive, as ours), executes a plain dump.

    Owners and grants in it are left out when `sandboxed`. Raise RestoreError unless all of it is executed and complete.
    """

    def __init__(self, connection: Connection, meter: Meter, sandboxed: bool) -> None:
        self._connection = connection
        self._meter = meter
        self._sandboxed = sandboxed
        self.warnings: list[str] = []
        self.rows: dict[tuple[str, str], int] = {}

    def load(self, text: Iterator[bytes]) -> None:
        """Given the dump's text, execute it to its end."""
        self._connection.execute(SESSION)
        splitter, loader = (
            DumpSplitter(LONGEST_STATEMENT if self._sandboxed else None),
            EventLoader(self._connection, self._run, self._meter),
        )
        try:
            for chunk in text:
                for event in splitter.feed(chunk):
                    loader.take(event)
                self._meter.add(len(chunk))
            for event in splitter.finish():
                loader.take(event)
        except DumpError as error:
            raise RestoreError(f"The dump in the archive is not complete: {error}") from error
        loader.finish()
        self.rows = loader.rows
        if self._connection.info.transaction_status != pq.TransactionStatus.IDLE:
            raise RestoreError("The dump leaves a transaction open, which no pg_dump does; it was refused.")
        if self._sandboxed and self._connection.execute(_PREPARED).fetchone() is not None:
            raise RestoreError("The dump leaves a prepared transaction, which no pg_dump does; it was refused.")

    def _run(self, statement: bytes) -> None:
        if planner_statistics(statement) or (self._sandboxed and _LEFT_OUT.match(statement)):
            return  # what the planner is to know is found by ANALYZE, and not believed
        if TABLESPACE.match(statement):
            warning = use_tablespace(self._connection, statement)
            if warning is not None and warning not in self.warnings:
                self.warnings.append(warning)
            return
        try:
            execute(self._connection, statement)
        except _REFUSALS as error:
            if not (_MAY_FAIL.match(statement) or (not self._sandboxed and _LEFT_OUT.match(statement))):
                raise
            self.warnings.append(f"Left out: {failed(statement, error)}")


def count_rows(connection: Connection, schema: str, table: str) -> int | None:
    """Given the role's own table, named as in the dump, count its rows, without those of tables that inherit from it.

    The session's client_encoding must be the dump's. None where its policies hold for its owner too, so that nobody but a
    superuser could count them.
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
        self.code: list[str] = []
        self.code_count = 0
        self.version: int | None = None
        self.bytes = 0
        self._table = ("", "")

    def read(self, text: Iterator[bytes]) -> None:
        """Given the dump's text, survey it to its end. Raise RestoreError unless it is complete."""
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
            self._note_code(statement.text)

    def _note_version(self, text: bytes) -> None:
        if self.version is None and (match := _VERSION.search(text)):
            self.version = int(match[1])

    def _note_code(self, statement: bytes) -> None:
        if brings_code(statement):
            self.code_count += 1
            if len(self.code) < CODE_KEPT:
                self.code.append(excerpt(statement))
