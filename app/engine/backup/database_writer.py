"""Write the database's part of an archive: one .sql.gz of many small members, with its tar header filled in at the end."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial

from ..archive import tar_headers
from ..archive.gzip_members import deflated_member, stored_member
from ..archive.layout import front
from ..archive.manifest import Segment
from ..archive.writer import Built, MemberPipeline
from ..dump.dump_splitter import END_LINE, CopyBegin, CopyEnd, Event, Rows, Sql
from ..progress import Meter
from ..storage.interface import Buffer

PIECE_BYTES = 4 * 1024 * 1024
LONGEST_PIECE = 8 * 1024 * 1024
"""A piece that reaches this many bytes without the end of a row ends inside one."""


@dataclass
class _Open:
    """The segment in progress."""

    kind: str
    begin: CopyBegin | None = None
    offset: int = -1
    size: int = 0
    rows: int = 0
    pieces: list[int] = field(default_factory=list)
    continued: list[int] = field(default_factory=list)
    submitted: int = 0


class DatabaseWriter:
    """Write the events of a dump; `finish` returns what was written."""

    def __init__(self, pipeline: MemberPipeline, meter: Meter, app_name: str, mtime: int) -> None:
        self._pipeline = pipeline
        self._meter = meter
        self._app_name = app_name
        self._mtime = mtime
        self._digest = hashlib.sha256()
        self._segments: list[_Open] = []
        self._current = self._new_segment("sql", None)
        self._parts: list[Buffer] = []
        self._parts_size = 0
        self._size = 0
        self._cut_inside_row = False
        _, self.header_bytes = pipeline.file.write(front(app_name, 0, mtime), hashed=False)

    def _new_segment(self, kind: str, begin: CopyBegin | None) -> _Open:
        segment = _Open(kind, begin)
        self._segments.append(segment)
        return segment

    def take(self, event: Event) -> None:
        """Add the next event of the dump."""
        if isinstance(event, Rows):
            self._current.rows += event.count
            self._add_rows(event)
        elif isinstance(event, Sql):
            for start in range(0, len(event.text), PIECE_BYTES):
                self._add(event.text[start : start + PIECE_BYTES])
                if self._parts_size >= PIECE_BYTES:
                    self._cut()
        elif isinstance(event, CopyBegin):
            self._add(event.statement + b"\n")
            self._cut()
            self._current = self._new_segment("copy", event)
        elif isinstance(event, CopyEnd):
            self._cut()
            self._current = self._new_segment("sql", None)
            self._add(END_LINE)

    def _add(self, buffer: Buffer) -> None:
        self._parts.append(buffer)
        self._parts_size += len(buffer)

    def _add_rows(self, rows: Rows) -> None:
        if self._parts_size + len(rows) < PIECE_BYTES:
            self._add(rows.text)
            return
        whole, rest = rows.parted()
        if len(whole):
            self._add(whole.text)
            self._cut()
        if len(rest):
            self._add(rest.text)
        if self._parts_size > LONGEST_PIECE:
            self._cut(inside_row=True)

    def _cut(self, inside_row: bool = False) -> None:
        if self._parts:
            segment, parts = self._current, self._parts
            if self._cut_inside_row:
                segment.continued.append(segment.submitted)
            segment.submitted += 1
            segment.size += self._parts_size
            self._pipeline.submit(partial(_piece, parts), partial(self._piece_written, segment), self._parts_size)
            self._parts, self._parts_size = [], 0
        self._cut_inside_row = inside_row

    def _piece_written(self, segment: _Open, offset: int, length: int, piece: Piece) -> None:
        """Record the position of a piece of `segment`."""
        if segment.offset < 0:
            segment.offset = offset
        segment.pieces.append(length)
        self._size += len(piece.inner)
        self._digest.update(piece.inner)
        self._meter.add(piece.size)

    def finish(self) -> WrittenDump:
        """Write the rest and the tar header with the final size, and return what was written."""
        self._cut()
        self._pipeline.drain()
        tail = tar_headers.padding(self._size)
        if tail:
            self._pipeline.file.write(stored_member(tail))
        head = front(self._app_name, self._size, self._mtime)
        self._pipeline.file.overwrite(0, head)
        segments = [_as_segment(segment) for segment in self._segments if segment.pieces or segment.kind == "copy"]
        sql_bytes = sum(segment.size_bytes for segment in segments)
        return WrittenDump(self._size, self._digest.hexdigest(), sql_bytes, segments, b"".join(bytes(p) for p in head))


@dataclass(frozen=True)
class WrittenDump:
    """The .sql.gz in the archive: sizes in bytes, and the archive's first bytes in their final form."""

    size_bytes: int
    sha256: str
    sql_bytes: int
    segments: list[Segment]
    head: bytes


@dataclass(frozen=True)
class Piece:
    """A piece of the dump: its inner gzip member, and the number of bytes of text in it."""

    inner: bytes
    size: int


def _piece(parts: list[Buffer]) -> Built[Piece]:
    inner = b"".join(deflated_member(*parts))
    return Built([b"".join(stored_member(inner))], Piece(inner, sum(len(part) for part in parts)))


def _as_segment(open_segment: _Open) -> Segment:
    begin = open_segment.begin
    return Segment(
        kind=open_segment.kind,
        offset=max(0, open_segment.offset),
        pieces=open_segment.pieces,
        size_bytes=open_segment.size,
        rows=open_segment.rows,
        schema=begin.schema if begin else "",
        table=begin.table if begin else "",
        statement=begin.statement.decode("utf-8", "surrogateescape") if begin else "",
        continued=open_segment.continued,
    )
