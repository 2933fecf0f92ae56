"""Dump the database by one pg_dump or, on a machine with cores to spare, by several under one snapshot.

Several are safe here because the snapshot's holder locked every table before taking the snapshot. Each large
table's rows are written as COPY statements of a few MiB, so that the streams mix piece by piece and none is buffered.
"""

from __future__ import annotations

import contextlib
import os
import select
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from ..dump.dump_splitter import CopyBegin, CopyEnd, DumpSplitter, Event, Rows, Sql
from ..progress import Meter
from ..source.postgres import SourceTable
from ..system.processes import PIPE_BYTES, Child
from .database_writer import PIECE_BYTES, DatabaseWriter
from .dump import POLL_MILLISECONDS, DumpOrder, check_end, dump, started

PARALLEL_FROM_THREADS = 3
LARGE_TABLE_BYTES = 256 * 1024 * 1024


def parallel_dump(
    order: DumpOrder, tables: list[SourceTable], meter: Meter, writer: DatabaseWriter, meanwhile: Callable[[], None]
) -> list[str]:
    """Write the dump of the whole database, and return pg_dump's warnings.

    With fewer than three threads or no large table one pg_dump does it all. `meanwhile` is called while the first of them
    reads the catalogs. Raise DumpError as `dump` does.
    """
    large = [table for table in tables if table.size_bytes >= LARGE_TABLE_BYTES]
    if order.threads < PARALLEL_FROM_THREADS or not large:
        options = ("--statistics",) if order.with_statistics else ()
        return dump(replace(order, options=options), meter, writer.take, meanwhile)
    large.sort(key=lambda table: table.size_bytes, reverse=True)
    patterns = [os.fsdecode(table.pattern) for table in large]
    rest = ("--section=data", *(f"--exclude-table-data={pattern}" for pattern in patterns))
    orders = deque([replace(order, options=rest)])
    orders += [replace(order, options=("--section=data", "--strict-names", f"--table={pattern}")) for pattern in patterns]
    warnings = dump(replace(order, options=("--section=pre-data",)), meter, writer.take, meanwhile)
    warnings += _dump_side_by_side(orders, max(2, order.threads // 2), meter, writer)
    warnings += dump(replace(order, options=("--section=post-data",)), meter, writer.take)
    if order.with_statistics:
        warnings += dump(replace(order, options=("--statistics-only",)), meter, writer.take)
    return list(dict.fromkeys(warnings))


class _Stream:
    """One pg_dump's output, passed on as whole statements and whole COPY blocks."""

    def __init__(self, child: Child, writer: DatabaseWriter, rows_only: bool) -> None:
        self.child = child
        self._writer = writer
        self._rows_only = rows_only
        self._splitter = DumpSplitter()
        self._begin: CopyBegin | None = None
        self._blocks = 0
        self._rows: list[Rows] = []
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        for event in self._splitter.feed(chunk):
            self._take(event)

    def finish(self) -> list[str]:
        warnings = check_end(self.child)
        for event in self._splitter.finish():
            self._take(event)
        return warnings

    def _take(self, event: Event) -> None:
        if isinstance(event, Sql):
            if not self._rows_only:
                self._writer.take(event)
        elif isinstance(event, CopyBegin):
            self._begin, self._blocks = event, 0
        elif isinstance(event, Rows):
            self._add(event)
        elif isinstance(event, CopyEnd) and (self._rows or not self._blocks):
            self._write_block()

    def _add(self, rows: Rows) -> None:
        whole, rest = rows.parted()
        if len(whole) and self._size + len(whole) >= PIECE_BYTES:
            self._rows.append(whole)
            self._write_block()
            rows = rest
        if len(rows):
            self._rows.append(rows)
            self._size += len(rows)

    def _write_block(self) -> None:
        assert self._begin is not None
        self._writer.take(self._begin)
        for rows in self._rows:
            self._writer.take(rows)
        self._writer.take(CopyEnd())
        self._rows, self._size = [], 0
        self._blocks += 1


def _dump_side_by_side(orders: deque[DumpOrder], streams: int, meter: Meter, writer: DatabaseWriter) -> list[str]:
    """Run the orders, `streams` at a time; the first is for the small tables, the others for one table each."""
    warnings: list[str] = []
    poll = select.poll()
    running: dict[int, _Stream] = {}
    with contextlib.ExitStack() as children:
        first = True
        while orders or running:
            while orders and len(running) < streams:
                child = children.enter_context(started(orders.popleft()))
                running[child.stdout_fd] = _Stream(child, writer, rows_only=not first)
                poll.register(child.stdout_fd, select.POLLIN | select.POLLHUP)
                first = False
            ready = poll.poll(POLL_MILLISECONDS)
            meter.tick()
            for fd, _ in ready:
                chunk = os.read(fd, PIPE_BYTES)
                if chunk:
                    running[fd].feed(chunk)
                else:
                    poll.unregister(fd)
                    warnings += running.pop(fd).finish()
    return warnings
