"""Fills the tables of a staging database: rows, indexes, keys and statistics, on several connections at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import LiteralString

import psycopg

from ...archive.manifest import Segment
from ...archive.reader import ArchiveReader, inflate
from ...errors import RestoreError
from ...progress import Meter
from ...source.documents import shown
from ...source.names import quoted
from ...source.postgres import Connection
from .load_plan import ForeignKey, Key, PostData, TableWork
from .side_by_side import SideBySide, Task
from .sql_loader import copy_in, execute, failed

RUN_PIECES = 8
"""How many pieces of a shared-out table, of about 4 MiB each, one COPY takes: many enough to pay, few enough to share."""

_OF_EXTENSION: LiteralString = """
SELECT FROM pg_catalog.pg_depend WHERE classid = 'pg_catalog.pg_class'::pg_catalog.regclass
AND objid = pg_catalog.to_regclass(pg_catalog.convert_from(%s, pg_catalog.pg_client_encoding())) AND deptype = 'e'
"""

# By the building of its first index; not where autovacuum is off (index_update_stats in index.c, PostgreSQL 18).
_COUNTED: LiteralString = """
SELECT FROM pg_catalog.pg_class
WHERE oid = pg_catalog.to_regclass(pg_catalog.convert_from(%s, pg_catalog.pg_client_encoding())) AND reltuples >= 0
"""


@dataclass(frozen=True)
class Sessions:
    """The sessions that fill a staging database, of which `threads` can be busy at once. `superuser`, if there is one, does
    what the others may not."""

    connections: Sequence[Connection]
    threads: int
    superuser: Connection | None


class TableLoader:
    """Fills tables from an archive. `run` executes a statement of the dump on one of the sessions.

    Raise RestoreError where the server refuses, or the rows are not what the manifest says.
    """

    def __init__(
        self, reader: ArchiveReader, sessions: Sessions, run: Callable[[Connection, bytes], None], meter: Meter
    ) -> None:
        self._reader = reader
        self._threads = sessions.threads
        self._run = run
        self._meter = meter
        self._superuser = sessions.superuser
        self._side_by_side = SideBySide(sessions.connections)
        self.rows: dict[Key, int] = {}
        """How many rows the server has taken, by table."""
        self.added: set[bytes] = set()
        """The dump's statements for the foreign keys that are there and checked."""
        self._counted = self._copies_left = 0
        self._is_indexing = False
        self._lock, self._adding = threading.Lock(), threading.Lock()

    def close(self) -> None:
        """End the threads, and what the server does for them."""
        self._side_by_side.close()

    def load(self, segments: list[Segment], post_data: PostData, keys: list[ForeignKey], patient: Container[Key]) -> None:
        """Fill the tables, build their indexes and keys, and give the planner its statistics: each as soon as it can be.

        The `patient` tables are filled when all others are, one after the other.
        """
        blocks: dict[Key, list[Segment]] = {}
        for segment in segments:
            blocks.setdefault((segment.schema, segment.table), []).append(segment)
        share = sum(segment.size_bytes for segment in segments) / self._threads
        tasks, ready = [], {}
        turn, filled = _milestone(), _milestone()
        for table, its_blocks in sorted(blocks.items(), key=lambda item: item[0] in patient):
            self.rows[table] = 0
            size = sum(block.size_bytes for block in its_blocks)
            # One thread at a large table would keep all others waiting. Its rows mix on the disk, and are not born frozen.
            copies = self._copies(table, its_blocks, size, shared_out=table not in post_data.tables or size > share)
            for copy in copies:
                copy.before(filled)
            if table in patient:
                tasks.append(turn)
                others, turn = turn, _milestone()
                others.before(turn, *copies)
            for copy in copies:
                copy.before(turn)
            more, ready[table] = self._work(table, size, copies, filled, post_data.tables.get(table, TableWork()))
            tasks += [*copies, *more]
        self._do([*tasks, turn, filled, *self._key_tasks(keys, ready)])
        for table, its_blocks in blocks.items():
            rows = sum(block.rows for block in its_blocks)
            if self.rows[table] != rows:
                raise RestoreError(f"Table {shown('.'.join(table))} got {self.rows[table]} rows, but its backup has {rows}.")

    def _copies(self, table: Key, blocks: list[Segment], size: int, shared_out: bool) -> list[Task]:
        """Return the tasks that fill a table from blocks of `size` bytes. `shared_out`: several threads share the work."""
        if shared_out:
            runs = [run for block in blocks for run in _runs(block)]
            copies = [self._copy_task(size, table, run.statement, partial(self._copy, run=run)) for run in runs]
        else:
            whole = [_Run(block, block.offset, block.pieces) for block in blocks]
            copies = [self._copy_task(size, table, whole[0].statement, partial(self._copy_frozen, table=table, runs=whole))]
        self._copies_left += len(copies)
        return copies

    def _work(self, table: Key, size: int, copies: list[Task], filled: Task, work: TableWork) -> tuple[list[Task], Task]:
        """Return the tasks that follow the data of a table of `size` bytes, and the last of them. `copies` fill the table,
        `filled` is the milestone at which all tables are filled."""
        builds = [Task(size, partial(self._build, statements=statements)) for statements in work.builds]
        late = [Task(size, partial(self._build, statements=statements)) for statements in work.late_builds]
        last = Task(size, partial(self._complete, table=table, work=work))
        for copy in copies:
            copy.before(*builds, last)
        filled.before(*late)
        for build in (*builds, *late):
            build.before(last)
        return [*builds, *late, last], last

    def _key_tasks(self, keys: list[ForeignKey], ready: dict[Key, Task]) -> list[Task]:
        """Return one task for the foreign keys of each table. `ready` has each table's last task."""
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
                with self._adding:  # two that lock the same tables crosswise would deadlock
                    execute(connection, key.add)
            except psycopg.Error:
                if self._side_by_side.is_stopped:
                    raise
                continue
            added.append(key)
        for key in added:
            self._run(connection, key.validate)
            self.added.add(key.statement)

    def _do(self, tasks: list[Task]) -> None:
        counted = 0

        def tick(is_silent: bool) -> None:
            nonlocal counted
            now = self._counted
            self._meter.add(now - counted)
            counted = now
            if is_silent:  # building an index may take hours and counts no bytes
                self._meter.alive()
            if self._copies_left == 0 and not self._is_indexing:
                self._is_indexing = True
                self._meter.phase("indexes", None)

        self._side_by_side.run(tasks, tick)
        tick(False)

    def _copy_task(self, weight: int, table: Key, statement: bytes, copy: Callable[[Connection], int]) -> Task:
        """Return the task that copies rows into a table and counts them. `copy` returns how many."""

        def do(connection: Connection) -> None:
            try:
                rows = copy(connection)
            except psycopg.Error as error:
                raise failed(statement, error) from error
            with self._lock:
                self.rows[table] += rows
                self._copies_left -= 1

        return Task(weight, do, moves_bytes=True)

    def _copy_frozen(self, connection: Connection, table: Key, runs: list[_Run]) -> int:
        """Fill a table that is empty in the transaction that truncates it: its rows are born frozen, so that its
        pages need not be written again, and no WAL is needed where wal_level is minimal."""
        with connection.transaction():
            connection.execute(b"TRUNCATE ONLY " + quoted(*table))
            return sum(
                copy_in(connection, run.statement.removesuffix(b";") + b" WITH (FREEZE);", self._pieces(run)) for run in runs
            )

    def _copy(self, connection: Connection, run: _Run) -> int:
        try:
            return copy_in(connection, run.statement, self._pieces(run))
        except psycopg.errors.InsufficientPrivilege:
            name = quoted(run.segment.schema, run.segment.table)
            if self._superuser is None or self._superuser.execute(_OF_EXTENSION, [name]).fetchone() is None:
                raise
            return copy_in(self._superuser, run.statement, self._pieces(run))

    def _pieces(self, run: _Run) -> Iterator[bytes]:
        offset = run.offset
        for length in run.pieces:
            if self._side_by_side.is_stopped:
                raise RestoreError("The restore was stopped.")
            text = inflate(self._reader.member(offset, length))
            offset += length
            yield text
            with self._lock:
                self._counted += len(text)

    def _build(self, connection: Connection, statements: list[bytes]) -> None:
        for statement in statements:
            self._run(connection, statement)

    def _complete(self, connection: Connection, table: Key, work: TableWork) -> None:
        """Run what is left of a table's work; then its rows and pages have been counted, or ANALYZE is to do it."""
        self._build(connection, work.last)
        if work.must_be_analyzed or connection.execute(_COUNTED, [quoted(*table)]).fetchone() is None:
            self._run(connection, analyze_statement(table))
            work.is_analyzed = True


def _milestone() -> Task:
    """Return a task that does nothing, for others to wait for."""
    return Task(sys.maxsize, lambda _connection: None, moves_bytes=True)


def analyze_statement(table: Key) -> bytes:
    """Return the statement that collects the planner statistics of a table."""
    return b"ANALYZE " + quoted(*table)


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
