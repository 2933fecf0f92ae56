"""Filling the staging database from an archive of ours: tables and indexes by several connections at once."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import LiteralString

import psycopg
from psycopg import sql

from .archive_reader import ArchiveReader, inflate
from .dump_splitter import END_LINE, parse_copy
from .errors import RestoreError
from .load_role import NEEDS_SUPERUSER
from .manifest import Segment
from .progress import Meter
from .sql_loader import OWNER_TO, Connection, copy_in, execute, failed, is_command
from .sql_scanner import StatementScanner

RUN_PIECES = 8
"""How many pieces of a table, of about 4 MiB each, one COPY takes: many enough to pay, few enough to share out."""

SESSION = (
    "SET synchronous_commit = off; SET maintenance_work_mem = '256MB'; SET statement_timeout = 0;"
    " SET lock_timeout = 0; SET check_function_bodies = off"
)
SHARED_SETTINGS = ("client_encoding", "standard_conforming_strings", "xmloption", "row_security", "search_path")
_NAME = rb'(?:"(?:[^"]|"")*"|[a-z0-9_$\x80-\xff]+)'
_INDEX = re.compile(
    rb"CREATE (?:UNIQUE )?INDEX |ALTER TABLE ONLY "
    + _NAME
    + rb"(?:\."
    + _NAME
    + rb")?\s+ADD CONSTRAINT "
    + _NAME
    + rb" (?:PRIMARY KEY|UNIQUE)\b"
)
_MENDABLE = re.compile(
    OWNER_TO + rb"|(?:GRANT |REVOKE |ALTER DEFAULT PRIVILEGES |COMMENT ON (?:EXTENSION|SCHEMA) "
    rb"|SET SESSION AUTHORIZATION )",
    re.DOTALL,
)
_OWNER_TO = re.compile(OWNER_TO, re.DOTALL)
_OF_EXTENSION: LiteralString = """
SELECT FROM pg_catalog.pg_depend WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass
AND objid = pg_catalog.to_regclass(%s) AND deptype = 'e'
"""
_MENDABLE_ERRORS = (
    psycopg.errors.UndefinedObject,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.InvalidParameterValue,
)


@dataclass(frozen=True)
class Loaded:
    """What was loaded: rows by (schema, table) as the server counted them, and warnings."""

    rows: dict[tuple[str, str], int]
    warnings: list[str]


class ArchiveLoader:
    """Given an archive and a way to connect to an empty staging database, fills it.

    `superuser`, if given, connects for the few statements that the first may not execute. Raise RestoreError where the
    server refuses or the archive is not what its manifest says.
    """

    def __init__(
        self,
        reader: ArchiveReader,
        connect: Callable[[], Connection],
        threads: int,
        meter: Meter,
        superuser: Callable[[], Connection] | None = None,
    ) -> None:
        self._reader = reader
        self._superuser = superuser() if superuser is not None else None
        self._last: list[bytes] = []
        self._threads = max(1, threads)
        self._meter = meter
        self._connections = [connect() for _ in range(self._threads)]
        self._free: SimpleQueue[Connection] = SimpleQueue()
        for connection in self._connections:
            connection.execute(SESSION)
            self._free.put(connection)
        self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="load")
        self._rows: dict[tuple[str, str], int] = {}
        self._warnings: list[str] = []
        self._counted: list[int] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()

    def load(self) -> Loaded:
        """Load everything and return what was loaded."""
        segments = self._reader.manifest.database.segments
        copies = [number for number, segment in enumerate(segments) if segment.kind == "copy"]
        first, last = (copies[0], copies[-1]) if copies else (len(segments), len(segments) - 1)
        main = self._connections[0]
        self._meter.phase("database", self._reader.manifest.database.sql_bytes)
        self._run_all(main, self._statements(segments[:first]))
        self._share_settings(main)
        self._load_tables([segment for segment in segments if segment.kind == "copy"])
        between = [segment for segment in segments[first : last + 1] if segment.kind == "sql"]
        self._run_all(main, self._statements(between))
        self._finish(main, list(self._statements(segments[last + 1 :])))
        self._analyze()
        for statement in self._last:
            self._run_as_superuser(statement)
        return Loaded(self._rows, self._warnings)

    def close(self) -> None:
        """End the threads and the connections."""
        self._stop.set()
        for connection in self._connections:
            if not connection.closed:
                connection.cancel_safe(timeout=5)
        self._executor.shutdown(wait=True, cancel_futures=True)
        for connection in self._connections:
            connection.close()
        if self._superuser is not None:
            self._superuser.close()

    def _statements(self, segments: Sequence[Segment]) -> Iterator[bytes]:
        """Yield the statements of SQL segments, without the COPY statements and the ends of their data."""
        for segment in segments:
            scanner = StatementScanner()
            text = b"".join(self._reader.segment_text(segment))
            scanner.feed(text.removeprefix(END_LINE))
            self._meter.add(len(text))
            for statement in scanner.statements(final=True):
                if not is_command(statement) and parse_copy(statement.text) is None:
                    yield statement.text
            if scanner.unfinished:
                raise RestoreError("A statement of the dump is not complete; the archive is damaged.")

    def _share_settings(self, main: Connection) -> None:
        """Give all sessions what the head of the dump has set in one: its encoding above all."""
        values = {}
        for name in SHARED_SETTINGS:
            row = main.execute("SELECT pg_catalog.current_setting(%s) AS value", [name]).fetchone()
            assert row is not None
            values[name] = row["value"]
        for connection in [*self._connections[1:], *([self._superuser] if self._superuser is not None else [])]:
            for name, value in values.items():
                connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", [name, value])

    def _run_all(self, connection: Connection, statements: Iterator[bytes]) -> None:
        for statement in statements:
            self._meter.during(partial(self._run, connection, statement), partial(connection.cancel_safe, timeout=5))

    def _run(self, connection: Connection, statement: bytes) -> None:
        try:
            execute(connection, statement)
        except psycopg.Error as error:
            if self._superuser is not None and isinstance(error, psycopg.errors.InsufficientPrivilege):
                if _OWNER_TO.match(statement):
                    # Only when all is loaded: until then nothing may run with the rights of a greater owner.
                    self._last.append(statement)
                    return
                if NEEDS_SUPERUSER.match(statement):
                    self._run_as_superuser(statement)
                    return
            self._mend(statement, error)

    def _run_as_superuser(self, statement: bytes) -> None:
        assert self._superuser is not None
        try:
            execute(self._superuser, statement)
        except psycopg.Error as error:
            self._mend(statement, error)

    def _mend(self, statement: bytes, error: psycopg.Error) -> None:
        if not (isinstance(error, _MENDABLE_ERRORS) and _MENDABLE.match(statement)):
            raise failed(statement, error) from error
        self._warnings.append(f"Left out: {failed(statement, error)}")

    def _load_tables(self, segments: list[Segment]) -> None:
        largest_first = sorted(segments, key=lambda segment: segment.size_bytes, reverse=True)
        runs = [run for segment in largest_first for run in _runs(segment)]
        futures = [self._executor.submit(self._copy_run, run) for run in runs]
        self._wait(futures)
        for segment in segments:
            self._rows.setdefault((segment.schema, segment.table), 0)
        expected: dict[tuple[str, str], int] = {}
        for segment in segments:
            key = (segment.schema, segment.table)
            expected[key] = expected.get(key, 0) + segment.rows
        for key, rows in expected.items():
            if self._rows[key] != rows:
                raise RestoreError(f"Table {'.'.join(key)} got {self._rows[key]} rows, but its backup has {rows}.")

    def _copy_run(self, run: _Run) -> None:
        connection = self._free.get()
        statement = run.segment.statement.encode("utf-8", "surrogateescape")
        try:
            rows = self._copy(connection, statement, run)
        except psycopg.Error as error:
            raise failed(statement, error) from error
        finally:
            self._free.put(connection)
        key = (run.segment.schema, run.segment.table)
        with self._lock:
            self._rows[key] = self._rows.get(key, 0) + rows

    def _copy(self, connection: Connection, statement: bytes, run: _Run) -> int:
        try:
            return copy_in(connection, statement, self._pieces(run))
        except psycopg.errors.InsufficientPrivilege:
            name = sql.Identifier(run.segment.schema, run.segment.table).as_string()
            if self._superuser is None or self._superuser.execute(_OF_EXTENSION, [name]).fetchone() is None:
                raise
            return copy_in(self._superuser, statement, self._pieces(run))

    def _pieces(self, run: _Run) -> Iterator[bytes]:
        offset = run.offset
        for length in run.pieces:
            if self._stop.is_set():
                raise RestoreError("The restore was stopped.")
            text = inflate(self._reader.member(offset, length))
            offset += length
            yield text
            self._counted.append(len(text))

    def _wait(self, futures: list[Future[None]], silent: bool = False) -> None:
        """Wait for all, counting progress; raise the first failure at once. `silent` work may take hours without a byte."""
        counted = 0
        waiting = list(futures)
        while waiting:
            for future in [future for future in waiting if future.done()]:
                waiting.remove(future)
                future.result()
            done = sum(self._counted[counted:])
            counted = len(self._counted)
            self._meter.add(done)
            if silent:
                self._meter.alive()
            if waiting:
                self._stop.wait(0.05)

    def _finish(self, main: Connection, statements: list[bytes]) -> None:
        """Build indexes and keys side by side, then run what depends on them and all the rest in order."""
        indexes = [statement for statement in statements if _INDEX.match(statement)]
        self._meter.phase("indexes", None)
        first = next((number for number, statement in enumerate(statements) if _INDEX.match(statement)), len(statements))
        self._run_all(main, iter(statements[:first]))
        self._wait([self._executor.submit(self._build, statement) for statement in indexes], silent=True)
        self._run_all(main, (s for s in statements[first:] if not _INDEX.match(s)))

    def _analyze(self) -> None:
        """Give the planner its statistics, largest tables first and side by side."""
        self._meter.phase("verify", None)
        largest_first = sorted(self._reader.manifest.tables, key=lambda table: table.bytes, reverse=True)
        names = [sql.Identifier(table.schema, table.name).as_string().encode() for table in largest_first]
        self._wait([self._executor.submit(self._build, b"ANALYZE " + name) for name in names], silent=True)

    def _build(self, statement: bytes) -> None:
        connection = self._free.get()
        try:
            self._run(connection, statement)
        finally:
            self._free.put(connection)
        self._counted.append(len(statement))


@dataclass(frozen=True)
class _Run:
    """Some consecutive pieces of one table, beginning with a row."""

    segment: Segment
    offset: int
    pieces: list[int]


def _runs(segment: Segment) -> Iterator[_Run]:
    offset, start = segment.offset, 0
    continued = set(segment.continued)
    for number in range(1, len(segment.pieces) + 1):
        if number == len(segment.pieces) or (number - start >= RUN_PIECES and number not in continued):
            pieces = segment.pieces[start:number]
            yield _Run(segment, offset, pieces)
            offset, start = offset + sum(pieces), number
