"""Split the text of a plain dump at its COPY boundaries, without being fooled by names, comments or values.

Only the statement scanner decides where a COPY begins, and only a line of its own that is `\\.` ends one, as in psql.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from ..errors import DumpError
from ..source.names import unquoted
from .sql_scanner import Statement, StatementScanner

# Unambiguous, so that a hostile statement takes a single pass.
_NAME = rb'(?:"[^"]*(?:""[^"]*)*"|[^\s"(.]+)'
_COPY = re.compile(
    rb"COPY (?:(?P<schema>" + _NAME + rb")\.)?(?P<table>" + _NAME + rb")(?:\s*(?P<columns>\(.*\)))?\s+FROM stdin;",
    re.DOTALL,
)
_COLUMN = re.compile(rb'"[^"]*(?:""[^"]*)*"|[^\s",()]+')
LONGEST_COPY = 1024 * 1024
"""In bytes: several times the size for 1,600 columns, PostgreSQL's limit, with names full of quotes."""

END_LINE = b"\\.\n"
"""The line that ends a table's data."""

_END_MARK = b"\n" + END_LINE
LONGEST_SQL = 1024 * 1024
"""Text between COPY data is passed on in parts of at least this many bytes, each ending with a statement."""

FIRST_STEP, LONGEST_STEP = 1024, 256 * 1024
"""Bytes scanned at once after a table's data, increasing each time by the first number up to the second: text
beyond the next COPY is scanned in vain."""

DUMP_COMPLETE = b"-- PostgreSQL database dump complete\n"


@dataclass(frozen=True)
class CopyBegin:
    """A COPY statement, whose rows follow. Names are unquoted; `statement` is its text without the line end."""

    schema: str
    table: str
    statement: bytes


@dataclass(frozen=True)
class Sql:
    """Text outside of any COPY data."""

    text: bytes


@dataclass(frozen=True)
class Rows:
    """COPY data, cut anywhere: the bytes of `chunk` from `start` up to, but not including, `end`, in which `count` rows end.

    A chunk's events share it: a copy for each would take gigabytes with thousands of small tables.
    """

    chunk: bytes
    start: int
    end: int
    count: int

    @property
    def text(self) -> memoryview:
        return memoryview(self.chunk)[self.start : self.end]

    def __len__(self) -> int:
        return self.end - self.start

    def parted(self) -> tuple[Rows, Rows]:
        """Return the part that ends with a row, and the beginning of the next row; either may be empty."""
        border = max(self.start, self.chunk.rfind(b"\n", self.start, self.end) + 1)
        return replace(self, end=border), replace(self, start=border, count=0)


@dataclass(frozen=True)
class CopyEnd:
    """The end of a table's data, at its END_LINE."""


Event = CopyBegin | Sql | Rows | CopyEnd


def parse_copy(statement: bytes) -> CopyBegin | None:
    """Parse a COPY statement whose data follows in the stream; None for any other statement."""
    if not statement.startswith(b"COPY ") or len(statement) > LONGEST_COPY:
        return None
    match = _COPY.fullmatch(statement)
    if match is None:
        return None
    return CopyBegin(unquoted(match["schema"]), unquoted(match["table"]), statement)


def copied_columns(statement: str) -> tuple[str, ...] | None:
    """Return the columns of a COPY statement as pg_dump writes it; None if it is not one."""
    match = _COPY.fullmatch(statement.encode("utf-8", "surrogateescape"))
    return tuple(map(unquoted, _COLUMN.findall(match["columns"] or b""))) if match is not None else None


class DumpSplitter:
    """Turn the chunks of a dump into events, in order; their joined texts and line ends are the dump again.

    `longest_statement`, in bytes, limits the memory that an untrusted dump can take. `on_statement`, if given,
    is called with each statement that is not a COPY whose rows follow.
    """

    def __init__(
        self, longest_statement: int | None = None, on_statement: Callable[[Statement], None] | None = None
    ) -> None:
        self._longest_statement = longest_statement
        self._on_statement = on_statement
        self._complete = False
        self._begin_sql()
        self._held = b""
        self._in_copy = False
        self._newline_due = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that the next chunk completes. Raise DumpError if this is not pg_dump output."""
        events: list[Event] = []
        if self._held:
            chunk, self._held = self._held + chunk, b""
        # Searched from the right, which takes half the time if there is nothing to find; nearly every chunk has no mark.
        last_mark = chunk.rfind(_END_MARK) if b"\\" in chunk else -1
        position = 0
        while position < len(chunk):
            if self._in_copy:
                position = self._copy_data(chunk, position, last_mark, events)
            else:
                position = self._sql(chunk, position, events)
        return events

    def finish(self) -> list[Event]:
        """Return the remaining events. Raise DumpError if the dump does not end as pg_dump ends one."""
        if self._in_copy:
            raise DumpError("The dump broke off inside a table's data; see the database server's log.")
        events: list[Event] = []
        self._scan(events, final=True)
        if not self._in_copy:
            self._complete = self._complete or self._is_end_in(self._last_end, len(self._pending))
        self._pass_on(events, len(self._pending))
        if self._in_copy or self._scanner.unfinished:
            raise DumpError("The dump broke off inside a statement; see the database server's log.")
        if not self._complete:
            raise DumpError("The dump lacks pg_dump's last line, so it is not complete; see the database server's log.")
        return events

    def _begin_sql(self) -> None:
        self._scanner = StatementScanner()
        self._step = FIRST_STEP
        self._pending = bytearray()
        """Text not passed on yet; it begins at `_passed` of the text after the last table's data."""
        self._passed = 0
        self._last_end = 0
        """The end of the last statement in the pending text."""
        self._complete = False

    def _pass_on(self, events: list[Event], end: int) -> None:
        if end:
            events.append(Sql(bytes(memoryview(self._pending)[:end])))
            del self._pending[:end]
            self._passed += end
            self._last_end = max(0, self._last_end - end)

    def _is_end_in(self, start: int, end: int) -> bool:
        return self._pending.find(DUMP_COMPLETE, start, end) >= 0

    def _sql(self, chunk: bytes, position: int, events: list[Event]) -> int:
        """Scan the next bytes of the chunk, and return the position after those that are passed on or kept."""
        part = chunk[position : position + self._step]
        self._step = min(2 * self._step, LONGEST_STEP)
        self._scanner.feed(part)
        self._pending += part
        fed = self._passed + len(self._pending)
        behind_copy = self._scan(events, final=False)
        if behind_copy is not None:
            return position + len(part) - (fed - behind_copy)
        if self._longest_statement is not None and len(self._pending) - self._last_end > self._longest_statement:
            raise DumpError(f"A statement of the dump is longer than {self._longest_statement} bytes, so it was refused.")
        if self._last_end >= LONGEST_SQL:
            self._pass_on(events, self._last_end)
        return position + len(part)

    def _scan(self, events: list[Event], final: bool) -> int | None:
        """Note the statements that are now complete. Return the position after a COPY, where its rows begin, if there is
        one."""
        for statement in self._scanner.statements(final):
            end = statement.end - self._passed
            begin = end - len(statement.text)
            # pg_dump's last line counts only as a comment with nothing but a \unrestrict after it.
            self._complete = (self._complete and statement.is_meta_command) or (
                begin - self._last_end >= len(DUMP_COMPLETE) and self._is_end_in(self._last_end, begin)
            )
            self._last_end = end
            copy = parse_copy(statement.text)
            if copy is not None:
                self._pass_on(events, begin)
                events.append(copy)
                self._in_copy = self._newline_due = True
                return statement.end
            if self._on_statement is not None:
                self._on_statement(statement)
        return None

    def _copy_data(self, chunk: bytes, position: int, last_mark: int, events: list[Event]) -> int:
        """Pass rows on, and return the position after them, or after the table's end if it is there."""
        if self._newline_due:
            if chunk[position] != ord("\n"):
                raise DumpError("Unexpected text behind a COPY statement in the dump.")
            if chunk.startswith(_END_MARK, position):
                self._newline_due = False
                return self._leave_copy(position + 1, events)
            if len(chunk) - position < len(_END_MARK) and _END_MARK.startswith(chunk[position:]):
                self._held = chunk[position:]
                return len(chunk)
            self._newline_due = False
            position += 1
        found = chunk.find(_END_MARK, position) if last_mark >= position else -1
        if found >= 0:
            self._add_rows(chunk, position, found + 1, events)
            return self._leave_copy(found + 1, events)
        held = next((n for n in (3, 2, 1) if chunk.endswith(_END_MARK[:n], position)), 0)
        self._add_rows(chunk, position, len(chunk) - held, events)
        self._held = chunk[len(chunk) - held :]
        return len(chunk)

    def _add_rows(self, chunk: bytes, start: int, end: int, events: list[Event]) -> None:
        if start < end:
            events.append(Rows(chunk, start, end, chunk.count(b"\n", start, end)))

    def _leave_copy(self, position: int, events: list[Event]) -> int:
        events.append(CopyEnd())
        self._in_copy = False
        self._begin_sql()
        return position + len(END_LINE)
