"""Cuts the passing text of a plain dump at its COPY borders, without being fooled by names, comments or values.

Only the statement scanner decides where a COPY begins, and only a line of its own that is `\\.` ends one, as in psql.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import DumpError
from .names import unquoted
from .sql_scanner import StatementScanner

_NAME = rb'(?:"(?:[^"]|"")*"|[^\s"(.]+)'
_COPY = re.compile(
    rb"COPY (?:(?P<schema>" + _NAME + rb")\.)?(?P<table>" + _NAME + rb")\s*(?P<columns>\(.*\))?\s+FROM stdin;",
    re.DOTALL,
)
_COLUMN = re.compile(rb'"(?:[^"]|"")*"|[^\s",()]+')
END_LINE = b"\\.\n"
"""Ends a table's data."""

_END_MARK = b"\n" + END_LINE
LONGEST_SQL = 1024 * 1024
"""Text between COPY data is passed on in parts of at least this many bytes, each the end of a statement."""

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
    """COPY data, cut anywhere; `count` is the number of rows that end in it."""

    text: memoryview
    count: int


@dataclass(frozen=True)
class CopyEnd:
    """The table's data is complete: here stands its END_LINE."""


Event = CopyBegin | Sql | Rows | CopyEnd


def parse_copy(statement: bytes) -> CopyBegin | None:
    """Given a statement, return what it copies if its data follows in the stream, else None."""
    match = _COPY.fullmatch(statement)
    if match is None:
        return None
    return CopyBegin(unquoted(match["schema"]), unquoted(match["table"]), statement)


def copied_columns(statement: str) -> tuple[str, ...] | None:
    """Given a COPY statement as pg_dump writes it, return the columns that its rows have; None if it is none."""
    match = _COPY.fullmatch(statement.encode("utf-8", "surrogateescape"))
    return tuple(map(unquoted, _COLUMN.findall(match["columns"] or b""))) if match is not None else None


class DumpSplitter:
    """Fed with the chunks of a dump, returns its events in order; their texts and line ends joined are the dump again.

    `longest_statement`, in bytes, bounds the memory that a dump which nobody vouches for can take.
    """

    def __init__(self, longest_statement: int | None = None) -> None:
        self._longest_statement = longest_statement
        self._begin_sql()
        self._held = b""
        self._in_copy = False
        self._newline_due = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Given the next chunk, return what it completes. Raise DumpError if this is no pg_dump output."""
        events: list[Event] = []
        rest: bytes | None = chunk
        while rest is not None:
            rest = self._copy_data(rest, events) if self._in_copy else self._sql(rest, events, final=False)
        return events

    def finish(self) -> list[Event]:
        """Return what is left. Raise DumpError if the dump does not end as pg_dump ends one."""
        if self._in_copy:
            raise DumpError("The dump broke off inside a table's data; see the database server's log.")
        events: list[Event] = []
        self._sql(b"", events, final=True)
        self._pass_on(events, self._pending)
        if self._in_copy or self._scanner.unfinished:
            raise DumpError("The dump broke off inside a statement; see the database server's log.")
        if not self._complete:
            raise DumpError("The dump lacks pg_dump's last line, so it is not complete; see the database server's log.")
        return events

    def _begin_sql(self) -> None:
        self._scanner = StatementScanner()
        self._pending = b""
        self._pending_starts_at = 0
        self._last_end = 0
        self._complete = False

    def _pass_on(self, events: list[Event], text: bytes) -> None:
        if text:
            events.append(Sql(text))

    def _sql(self, chunk: bytes, events: list[Event], final: bool) -> bytes | None:
        self._scanner.feed(chunk)
        self._pending += chunk
        last_end = self._last_end
        for statement in self._scanner.statements(final):
            between = self._pending[last_end : statement.end - self._pending_starts_at - len(statement.text)]
            last_end = statement.end - self._pending_starts_at
            # pg_dump's last line counts only where it is a comment, with nothing but a \unrestrict behind it.
            self._complete = DUMP_COMPLETE in between or (self._complete and statement.is_meta_command)
            copy = parse_copy(statement.text)
            if copy is not None:
                self._pass_on(events, self._pending[: last_end - len(statement.text)])
                events.append(copy)
                self._in_copy = self._newline_due = True
                return self._pending[last_end:]
        self._last_end = last_end
        if self._longest_statement is not None and len(self._pending) - last_end > self._longest_statement:
            raise DumpError(f"A statement of the dump is longer than {self._longest_statement} bytes, so it was refused.")
        if final and DUMP_COMPLETE in self._pending[last_end:]:
            self._complete = True
        if last_end >= LONGEST_SQL:
            self._pass_on(events, self._pending[:last_end])
            self._pending_starts_at += last_end
            self._pending = self._pending[last_end:]
            self._last_end = 0
        return None

    def _copy_data(self, chunk: bytes, events: list[Event]) -> bytes | None:
        data = self._held + chunk if self._held else chunk
        self._held = b""
        if self._newline_due and data:
            if not data.startswith(b"\n"):
                raise DumpError("Unexpected text behind a COPY statement in the dump.")
            self._newline_due = False
            if data.startswith(END_LINE, 1):
                return self._leave_copy(data[1:], events)
            if _END_MARK.startswith(data):
                self._held, self._newline_due = data, True
                return None
            data = data[1:]
        # A single byte is searched for ten times as fast, and from the right half again; nearly every chunk has no mark.
        found = data.find(_END_MARK) if b"\\" in data and data.rfind(_END_MARK) >= 0 else -1
        if found >= 0:
            self._add_rows(data, found + 1, events)
            return self._leave_copy(data[found + 1 :], events)
        held = next((n for n in (3, 2, 1) if data.endswith(_END_MARK[:n])), 0)
        self._add_rows(data, len(data) - held, events)
        self._held = data[len(data) - held :]
        return None

    def _add_rows(self, data: bytes, end: int, events: list[Event]) -> None:
        if end:
            events.append(Rows(memoryview(data)[:end], data.count(b"\n", 0, end)))

    def _leave_copy(self, rest: bytes, events: list[Event]) -> bytes:
        events.append(CopyEnd())
        self._in_copy = False
        self._begin_sql()
        return rest[len(END_LINE) :]
