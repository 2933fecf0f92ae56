"""Restoring inside the live database, in one transaction, for a role that may not create databases."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import LiteralString

import psycopg
from psycopg import sql

from ..archive.archive_reader import ArchiveReader
from ..database.dump_splitter import DumpSplitter
from ..database.postgres import connect, one_line
from ..errors import DumpError, RestoreBlocked, RestoreError
from ..files.documents import shown
from ..progress import Meter
from .database_settings import apply_settings, reset_public_schema, reset_settings
from .load_plan import planner_statistics
from .restore_source import Origin, RestoreRequest
from .sql_loader import OWNER_TO, TABLESPACE, Connection, EventLoader, execute, without_tablespace

_TRANSACTION = re.compile(rb"(?:BEGIN|COMMIT|START TRANSACTION|END)\s*;", re.IGNORECASE)
_MAY_FAIL = re.compile(
    OWNER_TO + rb"|(?:CREATE SCHEMA\b|GRANT\b|REVOKE\b|ALTER DEFAULT PRIVILEGES\b"
    rb"|COMMENT ON (?:EXTENSION|SCHEMA)\b|CREATE EXTENSION\b)",
    re.DOTALL | re.IGNORECASE,
)
_FOREIGN_OBJECTS: LiteralString = """
SELECT format('%%s %%I.%%I of %%I', CASE c.relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' ELSE 'table' END,
              n.nspname, c.relname, pg_get_userbyid(c.relowner)) AS what
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relpersistence <> 't'
  AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema' AND c.relowner <> %s::regrole
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
LIMIT 5
"""


def restore_in_place(
    origin: Origin,
    url: str,
    request: RestoreRequest,
    meter: Meter,
    rows: dict[tuple[str, str], int],
    warnings: list[str],
    before_commit: Callable[[Connection], None],
) -> float:
    """Given an archive that may run as our role, replace all that the role owns in one transaction.

    Fills `rows` and `warnings` and returns how long the tables were locked, in seconds. `before_commit` gets the connection.
    Raise RestoreError; nothing has changed then.
    """
    reader = origin.reader
    if reader is None or not origin.uses_index(request.trusted):
        raise RestoreBlocked(
            ["Only an archive of ours can be restored inside the live database: ALTER ROLE … CREATEDB first."]
        )
    with connect(url, f"restore {request.restore_id}") as connection:
        row = connection.execute("SELECT current_user AS role, current_database() AS name").fetchone()
        assert row is not None
        others = [found["what"] for found in connection.execute(_FOREIGN_OBJECTS, [row["role"]])]
        if others:
            raise RestoreBlocked(
                [f"Inside the live database only what the role {row['role']} owns can be replaced, not {others[0]}."]
            )
        began = time.monotonic()
        try:
            with connection.transaction():
                drop_owned = sql.SQL("DROP OWNED BY {} CASCADE").format(sql.Identifier(row["role"]))
                meter.during(partial(connection.execute, drop_owned), partial(connection.cancel_safe, timeout=5))
                reset_public_schema(connection)
                _load(connection, reader, meter, rows, warnings)
                facts = reader.manifest.database.facts
                reset_settings(connection, str(row["name"]))
                warnings += apply_settings(connection, str(row["name"]), facts)
                connection.execute("SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL synchronous_commit = on")
                meter.phase("swap")
                before_commit(connection)
        except psycopg.Error as error:
            raise RestoreError(f"The live database was not changed: {one_line(error)}") from error
        return time.monotonic() - began


def _load(
    connection: Connection, reader: ArchiveReader, meter: Meter, rows: dict[tuple[str, str], int], warnings: list[str]
) -> None:
    def run(statement: bytes) -> None:
        if _TRANSACTION.fullmatch(statement):
            return
        if not (_MAY_FAIL.match(statement) or TABLESPACE.match(statement) or planner_statistics(statement)):
            execute(connection, statement)
            return
        try:
            with connection.transaction():
                execute(connection, statement)
        except psycopg.errors.DuplicateSchema:
            return  # another role's, as that of an extension may be: it has stayed
        except psycopg.errors.InvalidParameterValue as error:
            if (warning := without_tablespace(connection, statement, error)) not in warnings:
                warnings.append(warning)
        except psycopg.Error as error:
            if statement.startswith(b"CREATE SCHEMA"):
                raise
            warnings.append(f"Left out: {one_line(error)}")

    meter.phase("database", reader.manifest.database.sql_bytes)
    splitter, loader = DumpSplitter(), EventLoader(connection, run, meter)
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
    for table in reader.manifest.tables:
        found = loader.rows.get((table.schema, table.name), 0)
        if found != table.rows:
            name = shown(f"{table.schema}.{table.name}")
            raise RestoreError(f"Table {name} got {found} rows, but its backup has {table.rows}.")
    rows.update(loader.rows)


def _text(reader: ArchiveReader) -> Iterator[bytes]:
    for segment in reader.manifest.database.segments:
        yield from reader.segment_text(segment)
