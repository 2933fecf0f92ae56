"""Restores inside the live database, in one transaction, for a role that may not create databases."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import psycopg
from psycopg import sql

from ..archive.reader import ArchiveReader
from ..dump.dump_splitter import DumpSplitter
from ..errors import DumpError, RestoreBlocked, RestoreError, Subject
from ..progress import Meter
from ..source.documents import shown
from ..source.needs import present_objects, some, special_objects
from ..source.postgres import CANCEL_SECONDS, Connection, connect, one_line
from .dumpable import check_readable
from .loading.load_plan import planner_statistics
from .loading.sql_loader import DISPENSABLE, OWNER_TO, TABLESPACE, EventLoader, execute, use_tablespace
from .places.database_settings import apply_settings, reset_public_schema, reset_settings
from .request import Origin, RestoreRequest

_TRANSACTION = re.compile(rb"(?:BEGIN|COMMIT|START TRANSACTION|END)\s*;", re.IGNORECASE)
_MAY_FAIL = re.compile(OWNER_TO + rb"|(?:CREATE SCHEMA\b|CREATE EXTENSION\b)|" + DISPENSABLE, re.DOTALL | re.IGNORECASE)
_OWNER_TO = re.compile(OWNER_TO, re.DOTALL)
_SPECIAL = re.compile(
    rb"CREATE (?:OR REPLACE )?(?:TRUSTED )?(?:PROCEDURAL )?(?P<kind>FUNCTION|PROCEDURE|AGGREGATE|TYPE|CAST|OPERATOR CLASS"
    rb"|OPERATOR FAMILY|LANGUAGE|FOREIGN DATA WRAPPER|SERVER|TEXT SEARCH PARSER|TEXT SEARCH TEMPLATE|ACCESS METHOD"
    rb"|TRANSFORM)(?: FOR)?\s+(?P<name>(?:\"(?:[^\"]|\"\")*\"|[^\s\";(])*)"
    rb"|ALTER (?P<family>OPERATOR FAMILY) ",
)
_STAYED = (
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.DuplicateObject,
    psycopg.errors.DuplicateFunction,
    psycopg.errors.InvalidFunctionDefinition,  # an aggregate over internal state
    psycopg.errors.UniqueViolation,
)


class _Staying:
    """What only a superuser may create of a backup, and what must therefore be in the live database already."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._objects = special_objects(facts)
        self._kinds = {kind for kind, _ in self._objects}
        self._names = {(kind, name.partition("(")[0]) for kind, name in self._objects}

    def may_be(self, statement: bytes) -> bool:
        """Return whether a statement creates one of these objects, or adds to one."""
        match = _SPECIAL.match(statement) if self._objects else None
        if match is None:
            return False
        kind = (match["kind"] or match["family"]).decode().lower().replace("foreign data", "foreign-data")
        if kind in ("function", "procedure", "aggregate", "type"):
            return (kind, match["name"].decode("utf-8", "replace")) in self._names
        return kind in self._kinds

    def check(self, connection: Connection) -> None:
        """Raise RestoreError unless all of them are there."""
        if self._objects and (lost := self._objects - present_objects(connection, staying_only=False)):
            names = some(sorted(f"{kind} {name}" for kind, name in lost))
            raise RestoreError(
                f"Only a superuser may create {names}, and the live database no longer has it: use a superuser in "
                f"{Subject.SOURCE} for this restore. The live database was not changed."
            )


@dataclass(frozen=True)
class Replaced:
    """What a restore in place has loaded: rows by (schema, table), warnings, and for how many seconds tables were locked."""

    rows: dict[tuple[str, str], int]
    warnings: list[str]
    seconds: float


def restore_in_place(
    request: RestoreRequest, origin: Origin, meter: Meter, before_commit: Callable[[Connection], None]
) -> Replaced:
    """Replace all that our role owns in one transaction. `before_commit` gets its connection.

    Raise RestoreError; nothing has changed then.
    """
    reader = origin.reader
    if reader is None or not origin.uses_index(request.trusted):
        raise RestoreBlocked(
            ["Only an archive of ours can be restored inside the live database: ALTER ROLE … CREATEDB first."]
        )
    with connect(request.target.database_url, f"restore {request.restore_id}") as connection:
        row = connection.execute("SELECT current_user AS role, current_database() AS name").fetchone()
        assert row is not None
        began = time.monotonic()
        try:
            with connection.transaction():
                drop_owned = sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(row["role"]))
                meter.during(
                    partial(connection.execute, drop_owned), partial(connection.cancel_safe, timeout=CANCEL_SECONDS)
                )
                reset_public_schema(connection)
                rows, warnings = _load(connection, reader, meter)
                facts = reader.manifest.database.facts
                reset_settings(connection, str(row["name"]))
                warnings += apply_settings(connection, str(row["name"]), facts)
                check_readable(connection)
                connection.execute("SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL synchronous_commit = on")
                meter.phase("swap")
                before_commit(connection)
        except psycopg.Error as error:
            raise RestoreError(f"The live database was not changed: {one_line(error)}") from error
        return Replaced(rows, warnings, time.monotonic() - began)


class _Statements:
    """Executes the statements of a dump inside the transaction of the restore. Collects warnings of what is left out."""

    def __init__(self, connection: Connection, facts: dict[str, Any]) -> None:
        self._connection = connection
        self.staying = _Staying(facts)
        self.warnings: list[str] = []

    def run(self, statement: bytes) -> None:
        """Execute a statement, unless what it creates has stayed. Raise psycopg.Error."""
        if _TRANSACTION.fullmatch(statement):
            return
        if TABLESPACE.match(statement):
            warning = use_tablespace(self._connection, statement)
            if warning is not None and warning not in self.warnings:
                self.warnings.append(warning)
        elif self.staying.may_be(statement):
            with contextlib.suppress(psycopg.errors.DuplicateSchema, *_STAYED):
                self._try(statement)
        elif _MAY_FAIL.match(statement) or planner_statistics(statement):
            self._run_dispensable(statement)
        else:
            execute(self._connection, statement)

    def _try(self, statement: bytes) -> None:
        """Execute a statement in a savepoint, so that the transaction goes on if it fails."""
        with self._connection.transaction():
            execute(self._connection, statement)

    def _run_dispensable(self, statement: bytes) -> None:
        try:
            self._try(statement)
        except psycopg.errors.DuplicateSchema:
            return  # another role's, as that of an extension may be: it has stayed
        except psycopg.Error as error:
            if statement.startswith(b"CREATE SCHEMA"):
                raise
            if isinstance(error, psycopg.errors.DuplicateObject):
                return  # a superuser's publication, event trigger or user mapping, which has stayed
            if not (_OWNER_TO.match(statement) and isinstance(error, psycopg.errors.InsufficientPrivilege)):
                self.warnings.append(f"Left out: {one_line(error)}")  # the preview warns of the others


def _load(connection: Connection, reader: ArchiveReader, meter: Meter) -> tuple[dict[tuple[str, str], int], list[str]]:
    """Load the dump in its own order, and return the rows by table and the warnings."""
    statements = _Statements(connection, reader.manifest.database.facts)
    meter.phase("database", reader.manifest.database.sql_bytes)
    splitter, loader = DumpSplitter(), EventLoader(connection, statements.run, meter)
    try:
        for text in _text(reader):
            for event in splitter.feed(text):
                loader.take(event)
            meter.add(len(text))
        for event in splitter.finish():
            loader.take(event)
    except DumpError as error:
        raise RestoreError(f"The dump in the archive is not complete: {error}") from error
    loader.finish()
    connection.execute("SET client_encoding = 'UTF8'; SET LOCAL search_path = pg_catalog")
    statements.staying.check(connection)
    for table in reader.manifest.tables:
        found = loader.rows.get((table.schema, table.name), 0)
        if found != table.rows:
            name = shown(f"{table.schema}.{table.name}")
            raise RestoreError(f"Table {name} got {found} rows, but its backup has {table.rows}.")
    return loader.rows, statements.warnings


def _text(reader: ArchiveReader) -> Iterator[bytes]:
    for segment in reader.manifest.database.segments:
        yield from reader.segment_text(segment)
