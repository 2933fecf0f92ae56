"""Executes the text of a dump through libpq: statement by statement, COPY data streamed, and no psql anywhere.

psql obeys backslash commands in its input, which makes every plain dump a program (CVE-2025-8714). Here only the server
sees the text, and what begins with a backslash is either pg_dump's own \\restrict line, which means nothing to a server,
or refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import LiteralString

import psycopg

from ...dump.dump_splitter import CopyBegin, CopyEnd, Event, Rows, Sql
from ...dump.sql_scanner import Statement, StatementScanner
from ...errors import RestoreError
from ...progress import Meter
from ...source.documents import shown
from ...source.names import unquoted
from ...source.postgres import CANCEL_SECONDS, Connection, one_line
from ...storage.interface import Buffer

_HARMLESS_COMMAND = re.compile(rb"\\(?:un)?restrict [A-Za-z0-9]+\s*")
OWNER_TO = rb'ALTER\b.*\bOWNER TO (?:"(?:[^"]|"")*"|[^\s";]+)\s*;\Z'
"""Matches, with DOTALL, a statement that does nothing but give an object to a role."""

TABLESPACE = re.compile(rb"SET default_tablespace = (.*);\Z", re.DOTALL)
DISPENSABLE = (
    rb"(?:GRANT\b|REVOKE\b|ALTER DEFAULT PRIVILEGES\b|SET SESSION AUTHORIZATION\b|SECURITY LABEL\b|CREATE USER MAPPING\b"
    rb"|(?:CREATE|ALTER) (?:EVENT TRIGGER|PUBLICATION|SUBSCRIPTION)\b"
    rb"|COMMENT ON\b)"
)
"""Matches, with IGNORECASE, the beginning of a statement on which no table, function or row depends: if the server refuses
it, the restore continues and warns of it."""

_MAY_CREATE: LiteralString = """
SELECT pg_catalog.has_tablespace_privilege(oid, 'CREATE') AS may FROM pg_catalog.pg_tablespace
WHERE spcname = pg_catalog.current_setting('default_tablespace')
"""
_SECRETS = re.compile(
    rb"(?:CREATE|ALTER) (?:USER MAPPING|SUBSCRIPTION|SERVER)\b.*?(?=\s(?:OPTIONS|CONNECTION)\b)", re.DOTALL | re.IGNORECASE
)
_WORDS = re.compile(rb"\s+")
EXCERPT_BYTES = 160


def excerpt(statement: bytes) -> str:
    """Return the beginning of a statement on one line, for a message."""
    text = _WORDS.sub(b" ", statement[: EXCERPT_BYTES * 2]).strip()
    short = text[:EXCERPT_BYTES].decode("utf-8", "replace")
    return short + ("…" if len(text) > EXCERPT_BYTES else "")


def execute(connection: Connection, statement: bytes) -> None:
    """Execute one statement by the simple query protocol. Raise psycopg.Error."""
    connection.execute(statement, prepare=False)


def use_tablespace(connection: Connection, statement: bytes) -> str | None:
    """Execute a statement that sets the default tablespace. If the tablespace is missing or closed to our role, use the
    database's default one instead and return a warning."""
    match = TABLESPACE.match(statement)
    assert match is not None, "the caller has matched it"
    name = unquoted(match[1].strip(b"'"))
    if not name:
        execute(connection, statement)
        return None
    try:
        with connection.transaction():  # a savepoint, where a transaction is open already
            execute(connection, statement)
    except psycopg.errors.InvalidParameterValue:
        execute(connection, b"SET default_tablespace = ''")
        return lacks_tablespace(name)
    row = connection.execute(_MAY_CREATE, prepare=False).fetchone()
    if row is None or row["may"]:
        return None
    execute(connection, b"SET default_tablespace = ''")
    return closed_tablespace(name)


def closed_tablespace(name: str) -> str:
    """Return the warning about a tablespace in which our role may not create anything."""
    return (
        f"What is in the tablespace {shown(name)} goes where the database is: GRANT CREATE ON TABLESPACE {shown(name)} "
        "to the role that restores (for a superuser: to the owner of the database) to keep it there."
    )


def lacks_tablespace(name: str) -> str:
    """Return the warning about a tablespace that is not on this server."""
    return f"The tablespace {shown(name)} is not on this server: what was in it goes where the database is."


def copy_in(connection: Connection, statement: bytes, chunks: Iterable[Buffer]) -> int:
    """Stream the data of a COPY … FROM stdin, and return how many rows the server took."""
    with connection.cursor() as cursor:
        with cursor.copy(statement) as copy:
            for chunk in chunks:
                copy.write(chunk)
        return cursor.rowcount


def is_command(statement: Statement) -> bool:
    """Return whether a scanned statement is pg_dump's \\restrict or \\unrestrict line.

    Raise RestoreError for every other command that only psql would obey.
    """
    if not statement.is_meta_command:
        return False
    if _HARMLESS_COMMAND.fullmatch(statement.text):
        return True
    raise RestoreError(
        f"The dump holds a psql command ({excerpt(statement.text)}), which no pg_dump writes; it was refused."
    )


class EventLoader:
    """Takes a dump's events and executes them in order on one connection.

    `run` receives each statement and executes it, or decides otherwise. `cancel` has the server end what is under way.
    `rows` counts what the server took by table.
    """

    def __init__(
        self,
        connection: Connection,
        run: Callable[[bytes], None],
        meter: Meter,
        cancel: Callable[[], object] | None = None,
    ) -> None:
        self._connection = connection
        self._run = run
        self._meter = meter
        self._cancel = cancel or partial(connection.cancel_safe, timeout=CANCEL_SECONDS)
        self._scanner = StatementScanner()
        self._copy: _OpenCopy | None = None
        self.rows: dict[tuple[str, str], int] = {}

    def take(self, event: Event) -> None:
        """Execute the next event. Raise RestoreError that quotes the statement which failed."""
        if isinstance(event, Sql):
            self._scanner.feed(event.text)
            self._statements(final=False)
        elif isinstance(event, CopyBegin):
            self._statements(final=True)
            self._copy = _OpenCopy(self._connection, event)
        elif isinstance(event, Rows):
            assert self._copy is not None
            # A trigger, a default or a lock can keep the server from taking rows for long.
            self._meter.during(partial(self._copy.write, event.text), self._cancel)
        elif isinstance(event, CopyEnd):
            assert self._copy is not None
            begin, copy, self._copy = self._copy.begin, self._copy, None
            key = (begin.schema, begin.table)
            self.rows[key] = self.rows.get(key, 0) + self._meter.during(copy.finish, self._cancel)

    def finish(self) -> None:
        """Execute what is left."""
        self._statements(final=True)

    def _statements(self, final: bool) -> None:
        for statement in self._scanner.statements(final):
            if not is_command(statement):
                try:
                    self._meter.during(partial(self._run, statement.text), self._cancel)
                except psycopg.Error as error:
                    raise failed(statement.text, error) from error


class _OpenCopy:
    """A COPY under way."""

    def __init__(self, connection: Connection, begin: CopyBegin) -> None:
        self.begin = begin
        self._cursor = connection.cursor()
        self._manager = self._cursor.copy(begin.statement)
        try:
            self._copy = self._manager.__enter__()
        except psycopg.Error as error:
            raise failed(begin.statement, error) from error

    def write(self, data: Buffer) -> None:
        try:
            self._copy.write(data)
        except psycopg.Error as error:
            raise failed(self.begin.statement, error) from error

    def finish(self) -> int:
        try:
            self._manager.__exit__(None, None, None)
        except psycopg.Error as error:
            raise failed(self.begin.statement, error) from error
        return self._cursor.rowcount


def failed(statement: bytes, error: psycopg.Error) -> RestoreError:
    """Return the error for a failed statement, without any password that the statement holds."""
    secret = _SECRETS.match(statement)
    shown_statement = excerpt(secret[0]) + " …" if secret is not None else excerpt(statement)
    return RestoreError(f"The server refused a statement of the dump: {one_line(error)} ({shown_statement})")
