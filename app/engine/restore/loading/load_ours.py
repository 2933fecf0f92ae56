"""Fills the staging database from an archive of ours: what stands before the rows, the tables, and what follows them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import LiteralString

import psycopg

from ...archive.manifest import Segment
from ...archive.reader import ArchiveReader
from ...dump.dump_splitter import END_LINE, parse_copy
from ...dump.sql_scanner import StatementScanner
from ...errors import RestoreError, SourceError
from ...progress import Meter
from ...source.names import as_dumped
from ...source.postgres import CANCEL_SECONDS, Connection
from .load_plan import Key, PostData, foreign_key, planner_statistics
from .load_tables import Sessions, TableLoader, analyze_statement
from .sql_loader import DISPENSABLE, OWNER_TO, TABLESPACE, execute, failed, is_command, use_tablespace
from .superuser import NEEDS_SUPERUSER, ROUTINE, create_routine_for

SESSIONS_MORE = 1
"""So many more sessions than threads are used for: one of them often waits for the WAL to reach the disk. With one more a
restore took 5 % less time, with two more it took longer."""

SESSION = (
    "SET synchronous_commit = off; SET maintenance_work_mem = '256MB'; SET statement_timeout = 0;"
    " SET lock_timeout = 0; SET check_function_bodies = off"
)
CACHED_BYTES = 4 * 1024**3
CACHED_SESSION = "SET effective_io_concurrency = 0; SET maintenance_io_concurrency = 0"
"""For dumps of up to so many bytes: what was just loaded still lies in the server's page cache, and to have its I/O workers
(PostgreSQL 18) fetch it from there takes longer than to read it: 2 % of a database's restore, 4 % of one with documents."""

SHARED_SETTINGS = (
    "client_encoding",
    "standard_conforming_strings",
    "xmloption",
    "row_security",
    "search_path",
    "default_tablespace",
)
_MAY_BE_LEFT_OUT = re.compile(OWNER_TO + rb"|" + DISPENSABLE, re.DOTALL)
_OWNER_TO = re.compile(OWNER_TO, re.DOTALL)
_SCHEMA_GRANT = re.compile(rb"GRANT (?:ALL|(?:USAGE,)?CREATE) ON SCHEMA ((?:\"(?:[^\"]|\"\")*\"|[^\s\"])+) TO ")
# Tables that are not partitioned, without those of extensions, which may have rows already.
_PLAIN: LiteralString = """
SELECT pg_catalog.convert_to(n.nspname, pg_catalog.pg_client_encoding()) AS schema,
       pg_catalog.convert_to(c.relname, pg_catalog.pg_client_encoding()) AS name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
# Tables whose checks or stored columns, or those of their columns' domains, call functions, which may read other tables.
_PATIENT: LiteralString = """
WITH calling AS (
    SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid >= 16384 AND l.lanname NOT IN ('c', 'internal')
), patient AS (
    SELECT k.conrelid AS oid FROM pg_catalog.pg_constraint k JOIN calling c ON c.objid = k.oid
    WHERE c.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass
    UNION
    SELECT a.attrelid FROM pg_catalog.pg_constraint k JOIN calling c ON c.objid = k.oid
    JOIN pg_catalog.pg_attribute a ON a.atttypid = k.contypid
    WHERE c.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND k.contypid <> 0
    UNION
    SELECT f.adrelid FROM pg_catalog.pg_attrdef f JOIN calling c ON c.objid = f.oid
    JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
    WHERE c.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND a.attgenerated = 's'
)
SELECT pg_catalog.convert_to(n.nspname, pg_catalog.pg_client_encoding()) AS schema,
       pg_catalog.convert_to(c.relname, pg_catalog.pg_client_encoding()) AS name
FROM patient JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
"""
_TABLESPACE: LiteralString = """
SELECT pg_catalog.convert_to('SET default_tablespace = ' || pg_catalog.quote_literal(setting) || ';',
                             pg_catalog.pg_client_encoding()) AS statement
FROM pg_catalog.current_setting('default_tablespace') AS setting
"""
_RIGHT_NEEDED = (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidFunctionDefinition)
_ERRORS_TO_WARN_OF = (
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
    """Fills an empty staging database from an archive.

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
        self._last: list[bytes] = []
        self._meter = meter
        self._warnings: list[str] = []
        threads = max(1, threads)
        with contextlib.ExitStack() as sessions:
            self._superuser = sessions.enter_context(closing(superuser())) if superuser is not None else None
            self._connections = [sessions.enter_context(closing(connect()))]
            with contextlib.suppress(SourceError):  # fewer do: the role or the server may have no more to give
                while len(self._connections) < threads + SESSIONS_MORE:
                    self._connections.append(sessions.enter_context(closing(connect())))
            for connection in self._connections:
                connection.execute(SESSION)
                if reader.manifest.database.sql_bytes <= CACHED_BYTES:
                    connection.execute(CACHED_SESSION)
            used = Sessions(self._connections, min(threads, len(self._connections)), self._superuser)
            self._tables = TableLoader(reader, used, self._run, meter)
            self._sessions = sessions.pop_all()

    def load(self) -> Loaded:
        """Load everything and return what was loaded."""
        segments = self._reader.manifest.database.segments
        copies = [number for number, segment in enumerate(segments) if segment.kind == "copy"]
        first, last = (copies[0], copies[-1]) if copies else (len(segments), len(segments) - 1)
        main = self._connections[0]
        self._meter.phase("database", self._reader.manifest.database.sql_bytes)
        self._run_all(main, self._statements(segments[:first]))
        self._share_settings(main)
        tables = _names(main, _PLAIN) & {(segment.schema, segment.table) for segment in segments}
        post_data, keys = PostData(tables, _tablespace(main)), []
        for statement in self._statements(segments[last + 1 :]):
            if not post_data.take(statement) and (key := foreign_key(statement, tables)):
                keys.append(key)
            self._meter.tick()
        copied = [segment for segment in segments if segment.kind == "copy"]
        self._tables.load(copied, post_data, keys, _names(main, _PATIENT))
        self._run_all(main, self._statements([segment for segment in segments[first : last + 1] if segment.kind == "sql"]))
        self._finish(main, segments[last + 1 :], post_data)
        self._run_last(main)
        return Loaded(self._tables.rows, self._warnings)

    def close(self) -> None:
        """End the threads and the connections."""
        self._tables.close()
        self._sessions.close()

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
            # psycopg returns the text of a session in SQL_ASCII as bytes.
            values[name] = row["value"].decode() if isinstance(row["value"], bytes) else row["value"]
        for connection in [*self._connections[1:], *([self._superuser] if self._superuser is not None else [])]:
            for name, value in values.items():
                connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", [name, value])

    def _run_all(self, connection: Connection, statements: Iterator[bytes]) -> None:
        for statement in statements:
            self._meter.during(
                partial(self._run, connection, statement), partial(connection.cancel_safe, timeout=CANCEL_SECONDS)
            )

    def _run(self, connection: Connection, statement: bytes) -> None:
        if TABLESPACE.match(statement):
            warning = use_tablespace(connection, statement)
            if warning is not None and warning not in self._warnings:
                self._warnings.append(warning)
            return
        try:
            execute(connection, statement)
            if self._last and self._superuser is None and (granted := _SCHEMA_GRANT.match(statement)):
                self._give_in_schema(connection, granted[1])
        except psycopg.Error as error:
            if isinstance(error, _RIGHT_NEEDED):
                if _OWNER_TO.match(statement):
                    # By a superuser only when all is loaded: until then nothing may run with the rights of a greater owner.
                    self._last.append(statement)
                    return
                if self._superuser is not None and NEEDS_SUPERUSER.match(statement):
                    self._run_as_superuser(statement)
                    return
            self._warn_or_raise(statement, error)

    def _give_in_schema(self, connection: Connection, schema: bytes) -> None:
        """Try again what could not be given to another role before it was granted the right to have anything in a schema:
        now, because the grants on what it owns come next."""
        waiting, self._last = self._last, []
        for statement in waiting:
            if b" " + schema + b"." in statement:
                try:
                    execute(connection, statement)
                except psycopg.errors.InsufficientPrivilege:
                    self._last.append(statement)
            else:
                self._last.append(statement)

    def _run_last(self, main: Connection) -> None:
        """Give to others what the first try could not."""
        for statement in self._last:
            try:
                execute(self._superuser or main, statement)
            except psycopg.Error as error:
                self._warn_or_raise(statement, error)

    def _run_as_superuser(self, statement: bytes) -> None:
        assert self._superuser is not None
        try:
            if ROUTINE.match(statement):
                create_routine_for(self._superuser, statement, self._connections[0].info.user)
            else:
                execute(self._superuser, statement)
        except psycopg.Error as error:
            self._warn_or_raise(statement, error)

    def _warn_or_raise(self, statement: bytes, error: psycopg.Error) -> None:
        """Leave a failed statement out with a warning if the rest is whole without it. Raise RestoreError otherwise."""
        if not (isinstance(error, _ERRORS_TO_WARN_OF) and _MAY_BE_LEFT_OUT.match(statement)):
            raise failed(statement, error) from error
        self._warnings.append(f"Left out: {failed(statement, error)}")

    def _finish(self, main: Connection, segments: Sequence[Segment], done: PostData) -> None:
        """Run what stands behind the data and belongs to no single table, in order, and what gives the planner its
        statistics: too much text for some databases to be kept until its table is there."""
        execute(main, done.tablespace_before)
        post_data = PostData(done.tables, done.tablespace_before)
        refused = set()
        for statement in self._statements(segments):
            if (statistics := planner_statistics(statement)) is not None:
                if done.wants(statistics) and not _is_taken(main, statement):
                    refused.add(statistics.relation)
                self._meter.alive()
            elif not post_data.take(statement) and statement not in self._tables.added:
                self._run_all(main, iter([statement]))
        self._run_all(main, map(analyze_statement, sorted(refused & done.tables.keys())))
        self._meter.phase("verify", None)


def _is_taken(main: Connection, statement: bytes) -> bool:
    """Execute a statement that may fail, and return whether the server has taken it."""
    try:
        execute(main, statement)
    except psycopg.OperationalError:  # a cancel, or the connection's end
        raise
    except psycopg.Error:
        return False
    return True


def _names(main: Connection, query: LiteralString) -> set[Key]:
    """Return the tables that a query finds, with their names as in the dump. It selects `schema` and `name` as bytes."""
    return {(as_dumped(row["schema"]), as_dumped(row["name"])) for row in main.execute(query)}


def _tablespace(main: Connection) -> bytes:
    """Return the statement that sets the default tablespace to what it is after the head of the dump."""
    row = main.execute(_TABLESPACE).fetchone()
    assert row is not None
    statement: bytes = row["statement"]
    return statement
