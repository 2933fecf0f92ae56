"""Filling the staging database from an archive of ours: tables, indexes and keys by several connections at once."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import LiteralString

import psycopg
from psycopg import sql

from ..archive.archive_reader import ArchiveReader, inflate
from ..archive.manifest import Segment
from ..database.dump_splitter import END_LINE, parse_copy
from ..database.sql_scanner import StatementScanner
from ..errors import RestoreError
from ..progress import Meter
from .load_plan import ForeignKey, Key, PostData, TableWork, foreign_key
from .load_role import NEEDS_SUPERUSER
from .side_by_side import SideBySide, Task
from .sql_loader import OWNER_TO, Connection, copy_in, execute, failed, is_command

RUN_PIECES = 8
"""How many pieces of a shared-out table, of about 4 MiB each, one COPY takes: many enough to pay, few enough to share."""

SESSION = (
    "SET synchronous_commit = off; SET maintenance_work_mem = '256MB'; SET statement_timeout = 0;"
    " SET lock_timeout = 0; SET check_function_bodies = off"
)
SHARED_SETTINGS = (
    "client_encoding",
    "standard_conforming_strings",
    "xmloption",
    "row_security",
    "search_path",
    "default_tablespace",
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
_PLAIN: LiteralString = """
SELECT n.nspname AS schema, c.relname AS name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
_MENDABLE_ERRORS = (
    psycopg.errors.UndefinedObject,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.InvalidParameterValue,
)


@dataclass(frozen=True)
class Loaded:
    """What was loaded: rows by (schema, table) as the server counted them, and warnings."""

    rows: dict[Key, int]
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
        for connection in self._connections:
            connection.execute(SESSION)
        self._side_by_side = SideBySide(self._connections)
        self._rows: dict[Key, int] = {}
        self._warnings: list[str] = []
        self._counted = self._copies_left = 0
        self._is_indexing = False
        self._added: set[bytes] = set()
        self._lock, self._adding = threading.Lock(), threading.Lock()
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
        tables = self._plain_tables(main) & {(segment.schema, segment.table) for segment in segments}
        post_data, keys = PostData(tables, _tablespace(main)), []
        for statement in self._statements(segments[last + 1 :]):
            if not post_data.take(statement) and (key := foreign_key(statement, tables)):
                keys.append(key)
            self._meter.tick()
        self._load_tables([segment for segment in segments if segment.kind == "copy"], post_data, keys)
        self._run_all(main, self._statements([segment for segment in segments[first : last + 1] if segment.kind == "sql"]))
        self._finish(main, segments[last + 1 :], PostData(tables, post_data.tablespace_before))
        for statement in self._last:
            self._run_as_superuser(statement)
        return Loaded(self._rows, self._warnings)

    def close(self) -> None:
        """End the threads and the connections."""
        self._stop.set()
        self._side_by_side.close()
        for connection in self._connections:
            connection.close()
        if self._superuser is not None:
            self._superuser.close()

    def _statements(self, segments: Sequence[Segment]) -> Iterator[bytes]:
        """Yield the statements of SQL segments, without the COPY statements and the ends of their data."""
        for segment in segments:
            scanner = StatementScanner()
            for number, text in enumerate(self._reader.segment_text(segment), 1):
                scanner.feed(text.removeprefix(END_LINE) if number == 1 else text)
                for statement in scanner.statements(final=number == len(segment.pieces)):
                    if not is_command(statement) and parse_copy(statement.text) is None:
                        yield statement.text
                self._meter.add(len(text))
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

    def _plain_tables(self, main: Connection) -> set[Key]:
        """Return the tables that are no partitioned ones and that no extension has brought, perhaps with rows in them."""
        return {(str(row["schema"]), str(row["name"])) for row in main.execute(_PLAIN)}

    def _load_tables(self, segments: list[Segment], post_data: PostData, keys: list[ForeignKey]) -> None:
        """Fill the tables, build their indexes and keys, and give the planner its statistics: each as soon as it can be."""
        blocks: dict[Key, list[Segment]] = {}
        for segment in segments:
            blocks.setdefault((segment.schema, segment.table), []).append(segment)
        share = sum(segment.size_bytes for segment in segments) / self._threads
        tasks, ready = [], {}
        for table, its_blocks in blocks.items():
            self._rows[table] = 0
            more, ready[table] = self._tasks(table, its_blocks, post_data.tables.get(table), share)
            tasks += more
        self._do([*tasks, *self._key_tasks(keys, ready)])
        for table, its_blocks in blocks.items():
            rows = sum(block.rows for block in its_blocks)
            if self._rows[table] != rows:
                raise RestoreError(f"Table {'.'.join(table)} got {self._rows[table]} rows, but its backup has {rows}.")

    def _tasks(self, table: Key, blocks: list[Segment], work: TableWork | None, share: float) -> tuple[list[Task], Task]:
        """Given a table, the blocks of its rows, what follows them and a thread's share of all data in bytes, return the
        table's tasks and the last of them."""
        size = sum(block.size_bytes for block in blocks)
        # One thread at such a table would keep all others waiting. Its rows mix on the disk, and are not born frozen.
        shared_out = work is None or size > share
        if shared_out:
            copies = [self._copy_task(size, partial(self._copy, run=run)) for block in blocks for run in _runs(block)]
        else:
            whole = [_Run(block, block.offset, block.pieces) for block in blocks]
            copies = [self._copy_task(size, partial(self._copy_frozen, table=table, runs=whole))]
        self._copies_left += len(copies)
        work = work or TableWork()
        analyze = b"ANALYZE " + sql.Identifier(*table).as_string().encode()
        builds = [Task(size, partial(self._build, statements=statements)) for statements in work.builds]
        last = Task(size, partial(self._build, statements=[*work.last, analyze]))
        for copy in copies:
            copy.before(*builds, last)
        for build in builds:
            build.before(last)
        return [*copies, *builds, last], last

    def _key_tasks(self, keys: list[ForeignKey], ready: dict[Key, Task]) -> list[Task]:
        """Given foreign keys and each table's last task, return a task for the keys of each table."""
        by_table: dict[Key, list[ForeignKey]] = {}
        for key in keys:
            if key.table in ready and key.other in ready:
                by_table.setdefault(key.table, []).append(key)
        tasks = []
        for table, its_keys in by_table.items():
            task = Task(ready[table].weight, partial(self._add_keys, keys=its_keys))
            for needed in {table, *(key.other for key in its_keys)}:
                ready[needed].before(task)
            tasks.append(task)
        return tasks

    def _add_keys(self, connection: Connection, keys: list[ForeignKey]) -> None:
        """Add foreign keys and check them. What can't be added yet is left to its place in the dump, or to fail there."""
        added = []
        for key in keys:
            try:
                with self._adding:  # two that lock the same tables crosswise would wait for each other for ever
                    execute(connection, key.add)
            except psycopg.Error:
                if self._stop.is_set():
                    raise
                continue
            added.append(key)
        for key in added:
            self._run(connection, key.validate)
            self._added.add(key.statement)

    def _do(self, tasks: list[Task]) -> None:
        counted = 0

        def tick(is_silent: bool) -> None:
            nonlocal counted
            now = self._counted
            self._meter.add(now - counted)
            counted = now
            if is_silent:  # an index may take hours without a byte
                self._meter.alive()
            if self._copies_left == 0 and not self._is_indexing:
                self._is_indexing = True
                self._meter.phase("indexes", None)

        self._side_by_side.run(tasks, tick)
        tick(False)

    def _copy_task(self, weight: int, copy: Callable[[Connection], tuple[Key, int]]) -> Task:
        """Given a function that copies rows into a table and says how many, return the task that does and counts it."""

        def do(connection: Connection) -> None:
            table, rows = copy(connection)
            with self._lock:
                self._rows[table] += rows
                self._copies_left -= 1

        return Task(weight, do, moves_bytes=True)

    def _copy_frozen(self, connection: Connection, table: Key, runs: list[_Run]) -> tuple[Key, int]:
        """Fill a table that is empty in the transaction that truncates it: its rows are born frozen, so that nobody has to
        write its pages once more, and no WAL is needed where wal_level is minimal."""
        rows = 0
        with connection.transaction():
            connection.execute(f"TRUNCATE ONLY {sql.Identifier(*table).as_string()}".encode())
            for run in runs:
                statement = run.statement.removesuffix(b";") + b" WITH (FREEZE);"
                try:
                    rows += copy_in(connection, statement, self._pieces(run))
                except psycopg.Error as error:
                    raise failed(run.statement, error) from error
        return table, rows

    def _copy(self, connection: Connection, run: _Run) -> tuple[Key, int]:
        table = (run.segment.schema, run.segment.table)
        try:
            try:
                return table, copy_in(connection, run.statement, self._pieces(run))
            except psycopg.errors.InsufficientPrivilege:
                name = sql.Identifier(*table).as_string()
                if self._superuser is None or self._superuser.execute(_OF_EXTENSION, [name]).fetchone() is None:
                    raise
                return table, copy_in(self._superuser, run.statement, self._pieces(run))
        except psycopg.Error as error:
            raise failed(run.statement, error) from error

    def _pieces(self, run: _Run) -> Iterator[bytes]:
        offset = run.offset
        for length in run.pieces:
            if self._stop.is_set():
                raise RestoreError("The restore was stopped.")
            text = inflate(self._reader.member(offset, length))
            offset += length
            yield text
            with self._lock:
                self._counted += len(text)

    def _build(self, connection: Connection, statements: list[bytes]) -> None:
        for statement in statements:
            self._run(connection, statement)

    def _finish(self, main: Connection, segments: Sequence[Segment], post_data: PostData) -> None:
        """Run what stands behind the data and belongs to no single table, in order."""
        execute(main, post_data.tablespace_before)
        for statement in self._statements(segments):
            if not post_data.take(statement) and statement not in self._added:
                self._run_all(main, iter([statement]))
        self._meter.phase("verify", None)


def _tablespace(main: Connection) -> bytes:
    """Return the statement that sets the default tablespace to what it is after the head of the dump."""
    query: LiteralString = "SELECT pg_catalog.quote_literal(pg_catalog.current_setting('default_tablespace')) AS name"
    row = main.execute(query).fetchone()
    assert row is not None
    return f"SET default_tablespace = {row['name']};".encode()


@dataclass(frozen=True)
class _Run:
    """Some consecutive pieces of one table, beginning with a row."""

    segment: Segment
    offset: int
    pieces: list[int]

    @property
    def statement(self) -> bytes:
        return self.segment.statement.encode("utf-8", "surrogateescape")


def _runs(segment: Segment) -> Iterator[_Run]:
    offset, start = segment.offset, 0
    continued = set(segment.continued)
    for number in range(1, len(segment.pieces) + 1):
        if number == len(segment.pieces) or (number - start >= RUN_PIECES and number not in continued):
            pieces = segment.pieces[start:number]
            yield _Run(segment, offset, pieces)
            offset, start = offset + sum(pieces), number
