"""What a restore is about to make live, recorded while it is known to be complete, and compared with it after a crash.

A server that loses the end of its WAL loses the last statements of a load: rows, an index, a grant. The record has the rows
of each table, the sequences, and a digest of the catalogues, which changes with every definition that is lost.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import sql

from ...errors import RestoreError
from ...source.documents import Skipped, walk
from ...source.names import as_dumped
from ...source.postgres import Connection, connect
from ...source.row_count import count_rows
from ..loading.load_plan import Key

FLUSH_SECONDS = 60.0
LISTED = 3

# What identifies a row of each catalogue. Its xmin is that of the transaction that wrote it last; VACUUM and ANALYZE, which
# may run at any time, change rows of pg_class in place and leave it alone.
_CATALOGUES: dict[LiteralString, LiteralString] = {
    "pg_class": "oid",
    "pg_attribute": "attrelid || '/' || attnum",
    "pg_attrdef": "oid",
    "pg_index": "indexrelid",
    "pg_constraint": "oid",
    "pg_inherits": "inhrelid || '/' || inhseqno",
    "pg_trigger": "oid",
    "pg_rewrite": "oid",
    "pg_policy": "oid",
    "pg_sequence": "seqrelid",
    "pg_namespace": "oid",
    "pg_type": "oid",
    "pg_enum": "oid",
    "pg_range": "rngtypid",
    "pg_proc": "oid",
    "pg_aggregate": "aggfnoid",
    "pg_operator": "oid",
    "pg_cast": "oid",
    "pg_opclass": "oid",
    "pg_extension": "oid",
    "pg_publication": "oid",
    "pg_publication_rel": "oid",
    "pg_statistic_ext": "oid",
    "pg_default_acl": "oid",
    "pg_description": "classoid || '/' || objoid || '/' || objsubid",
    "pg_largeobject_metadata": "oid",
}
_DIGEST: LiteralString = """
SELECT md5(string_agg(line, ',' ORDER BY line COLLATE "C")) AS digest FROM (
    {catalogues}
    UNION ALL SELECT 'database ' || datdba || ' ' || datconnlimit || ' ' || coalesce(datacl::text, '')
              FROM pg_database WHERE datname = current_database()
    UNION ALL SELECT 'setting ' || setrole || ' ' || setconfig::text
              FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database()
) found (line)
"""
_COUNTS: LiteralString = """
SELECT count(*) FILTER (WHERE relkind IN ('r', 'p', 'f')) AS tables, count(*) FILTER (WHERE relkind IN ('v', 'm')) AS views,
       count(*) FILTER (WHERE relkind IN ('i', 'I')) AS indexes, count(*) FILTER (WHERE relkind = 'S') AS sequences,
       (SELECT count(*) FROM pg_constraint) AS constraints, (SELECT count(*) FROM pg_trigger) AS triggers,
       (SELECT count(*) FROM pg_proc) AS functions, (SELECT count(*) FROM pg_largeobject_metadata) AS large_objects
FROM pg_class
"""
# Each that is read is locked until the statement ends, and a server has only so many locks.
SEQUENCES_AT_ONCE = 20
_SEQUENCES: LiteralString = """
SELECT s.seqrelid::bigint AS oid, sign(s.seqincrement)::int AS direction,
       CASE WHEN has_sequence_privilege(s.seqrelid, 'SELECT,USAGE') THEN pg_sequence_last_value(s.seqrelid) END AS value
FROM pg_sequence s WHERE s.seqrelid = ANY(%s::oid[])
"""
_SEQUENCE_IDS: LiteralString = """
SELECT s.seqrelid::bigint AS oid FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid WHERE c.relpersistence <> 't'
"""
# Those of extensions may hold rows that the extension brought and no backup has. Names for the dump, and for the session.
_TABLES: LiteralString = """
SELECT c.oid::bigint AS oid, c.relkind = 'p' AS partitioned, c.relpersistence = 'u' AS unlogged,
       convert_to(n.nspname, getdatabaseencoding()) AS dumped_schema,
       convert_to(c.relname, getdatabaseencoding()) AS dumped_name,
       convert_to(n.nspname, pg_client_encoding()) AS schema, convert_to(c.relname, pg_client_encoding()) AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.oid >= 16384 AND c.relpersistence <> 't'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
_PARTITIONS: LiteralString = """
SELECT convert_to(n.nspname, pg_client_encoding()) AS schema, convert_to(c.relname, pg_client_encoding()) AS name
FROM pg_partition_tree(%s::oid) t JOIN pg_class c ON c.oid = t.relid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE t.isleaf
"""


@contextlib.contextmanager
def looking_at(url: str, restore_id: UUID) -> Iterator[Connection]:
    """Yield a connection that reads names in any encoding and executes no policy of what it reads. Raise SourceError."""
    with connect(url, f"restore {restore_id}") as connection:
        connection.execute("SET row_security = off")
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            connection.execute("SET client_encoding = 'SQL_ASCII'")
        yield connection


@dataclass(frozen=True)
class DatabaseContents:
    """How many objects there are of each kind, a digest of their definitions, and by oid each table's rows and each
    sequence's last value."""

    counts: dict[str, int]
    digest: str
    rows: dict[str, int] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class FolderContents:
    """How many regular files there are in a folder, and their bytes."""

    files: int
    bytes: int


def record_database(connection: Connection, rows: dict[Key, int]) -> DatabaseContents:
    """Record what is in the connection's database. `rows`: what was counted for each table while it was loaded, by the name
    that it has in the dump; tables without a count are not compared."""
    by_oid = {
        str(table["oid"]): rows[key]
        for table in connection.execute(_TABLES).fetchall()
        if (key := (as_dumped(table["dumped_schema"]), as_dumped(table["dumped_name"]))) in rows
    }
    sequences = {oid: int(row["value"]) for oid, row in _sequences(connection).items()}
    return DatabaseContents(_counts(connection), _digest(connection), by_oid, sequences)


def database_losses(
    connection: Connection, recorded: DatabaseContents, rows: bool = True, unlogged: bool = True
) -> list[str]:
    """Return as phrases how the connection's database differs from what was recorded, or [] if it is whole.

    `rows` False leaves out rows and sequences, `unlogged` False the rows of unlogged tables, which a crash empties.
    """
    losses = []
    for kind, number in _counts(connection).items():
        if number != recorded.counts.get(kind):
            losses.append(f"{number} {kind.replace('_', ' ')} instead of {recorded.counts.get(kind)}")
    if not losses and _digest(connection) != recorded.digest:
        losses.append("definitions, owners, rights or comments other than those that were loaded")
    if not rows:
        return losses
    losses += _missing_rows(connection, recorded, unlogged)
    now = _sequences(connection)
    # A crash may advance a sequence, never set it back.
    wanted = recorded.sequences.items()
    behind = sum(oid not in now or (now[oid]["value"] - value) * now[oid]["direction"] < 0 for oid, value in wanted)
    return [*losses, *([f"{behind} sequences set back"] if behind else [])]


def _sequences(connection: Connection) -> dict[str, dict[str, Any]]:
    """Return the sequences that have given out a value: by oid their last value, and 1 or -1 as their direction."""
    oids = [row["oid"] for row in connection.execute(_SEQUENCE_IDS).fetchall()]
    found = {}
    for start in range(0, len(oids), SEQUENCES_AT_ONCE):
        rows = connection.execute(_SEQUENCES, [oids[start : start + SEQUENCES_AT_ONCE]]).fetchall()
        found.update({str(row["oid"]): row for row in rows if row["value"] is not None})
    return found


def _missing_rows(connection: Connection, recorded: DatabaseContents, unlogged: bool) -> list[str]:
    found = []
    for table in connection.execute(_TABLES).fetchall():
        wanted = recorded.rows.get(str(table["oid"]))
        if wanted is None or (table["unlogged"] and not unlogged):
            continue
        try:
            counted = _count(connection, table)
        except psycopg.errors.InsufficientPrivilege:
            continue  # nobody but a superuser could count them
        if counted != wanted:
            name = b".".join((table["schema"], table["name"])).decode("utf-8", "backslashreplace")
            found.append(f"{counted} rows instead of {wanted} in table {name}")
    return found[:LISTED] + ([f"rows missing in {len(found) - LISTED} more tables"] if len(found) > LISTED else [])


def _count(connection: Connection, table: dict[str, Any]) -> int:
    parts = [table]
    if table["partitioned"]:
        parts = connection.execute(_PARTITIONS, [table["oid"]]).fetchall()
    return sum(count_rows(connection, as_dumped(part["schema"]), as_dumped(part["name"])) for part in parts)


def _counts(connection: Connection) -> dict[str, int]:
    row = connection.execute(_COUNTS).fetchone()
    assert row is not None
    return {kind: int(number) for kind, number in row.items()}


def _digest(connection: Connection) -> str:
    catalogues = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {} || ' ' || ({})::text || ' ' || xmin::text FROM {}").format(
            sql.Literal(name), sql.SQL(identity), sql.Identifier("pg_catalog", name)
        )
        for name, identity in _CATALOGUES.items()
    )
    row = connection.execute(sql.SQL(_DIGEST).format(catalogues=catalogues)).fetchone()
    assert row is not None
    return row["digest"].decode() if isinstance(row["digest"], bytes) else str(row["digest"])


def folder_losses(folder: Path, recorded: FolderContents) -> list[str]:
    """Return as phrases how a folder differs from what was recorded, or [] if it doesn't, or if not all of it can be read.

    Raise SourceError if it can't be opened.
    """
    files = size = 0
    for found in walk(folder):
        if isinstance(found, Skipped):
            return []
        if found.kind == "file":
            files, size = files + 1, size + found.size
    if (files, size) == (recorded.files, recorded.bytes):
        return []
    return [f"{files} documents with {size} bytes instead of {recorded.files} with {recorded.bytes}"]


def flush_wal(connection: Connection) -> None:
    """Wait until all that was committed on the server, by whichever session, is in its WAL on the disk.

    WAL is flushed in the order in which it was written, so one commit that waits for its own record has waited for all
    before. A transaction that wrote nothing waits for nothing, even if it has an id: hence the message. Raise RestoreError
    if the server doesn't say within a minute that it is done.
    """
    row = connection.execute("SELECT pg_current_wal_insert_lsn() AS lsn").fetchone()
    assert row is not None
    with connection.transaction():
        connection.execute("SET LOCAL synchronous_commit = on")
        connection.execute("SELECT pg_logical_emit_message(true, 'restore', 'loaded')")
    until = time.monotonic() + FLUSH_SECONDS
    while time.monotonic() < until:
        done = connection.execute("SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn AS done", [row["lsn"]]).fetchone()
        if done is not None and done["done"]:
            return
        time.sleep(0.05)
    raise RestoreError("The database server did not write its WAL to the disk; check its disk. Nothing was changed.")
