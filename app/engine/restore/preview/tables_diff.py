"""The tables now and in a backup: how many rows each has, which columns, and which of its rows are not the same."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import LiteralString

from psycopg import sql

from ...archive.manifest import Segment
from ...archive.reader import ArchiveReader
from ...dump.dump_splitter import copied_columns
from ...progress import Meter
from ...source.names import as_dumped, readable
from ...source.postgres import CANCEL_SECONDS, Connection
from ...source.row_count import count_rows
from ..loading.load_plan import Key
from .rows_diff import ComparedTable, RowsDiff, compare_rows


@dataclass(frozen=True)
class TableDiff:
    """A table's rows now and in the backup; None where it does not exist, or is not known yet. Names are for people.

    `columns_added` come back, `columns_lost` disappear; generated ones are not looked at. `rows`: which rows differ, None if
    they were not compared.
    """

    schema: str
    name: str
    rows_now: int | None
    rows_backup: int | None
    approximate: bool
    columns_added: tuple[str, ...] = ()
    columns_lost: tuple[str, ...] = ()
    rows: RowsDiff | None = None


# As the planner estimates: the density that ANALYZE found, times the pages that there are now.
_TABLES: LiteralString = """
SELECT convert_to(n.nspname, getdatabaseencoding()) AS schema, convert_to(c.relname, getdatabaseencoding()) AS name,
       CASE WHEN c.reltuples >= 0 AND c.relpages > 0
            THEN c.reltuples / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::int)
            ELSE COALESCE(s.n_live_tup, 0) END::bigint AS rows,
       ARRAY(SELECT convert_to(a.attname, getdatabaseencoding()) FROM pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
             ORDER BY a.attnum) AS columns,
       ARRAY(SELECT convert_to(a.attname, getdatabaseencoding())
             FROM pg_index i CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
             WHERE i.indrelid = c.oid AND i.indisprimary AND k.place <= i.indnkeyatts ORDER BY k.place) AS key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
ORDER BY 1, 2
"""

# Names and values are read and written as pg_dump does (setup_connection in pg_dump.c), in the database's own encoding.
_AS_PG_DUMP: LiteralString = """
SET IntervalStyle = postgres; SET extra_float_digits = 3;
SELECT set_config('client_encoding', getdatabaseencoding()::text, false),
       set_config('TimeZone', coalesce({timezone}, current_setting('TimeZone')), false)
"""


@dataclass(frozen=True)
class _LiveTable:
    """A table as it is now: the server's estimate of its rows, and its columns and those of its primary key as in a dump."""

    rows: int
    columns: tuple[str, ...]
    key: tuple[str, ...]


class TablesDiff:
    """Compares the live tables with the backup's. `reader`: the archive, if it has an index that may be believed; `backup`:
    how many rows each of its tables has."""

    def __init__(
        self, connection: Connection, reader: ArchiveReader | None, backup: Mapping[Key, int], meter: Meter
    ) -> None:
        self._connection = connection
        self._backup = backup
        self._meter = meter
        self._encoding = _encoding(connection)
        # In another encoding neither names nor values would be the same bytes.
        same = reader is not None and reader.manifest.database.facts.get("encoding") == self._encoding
        self._reader = reader if same else None
        # Binary, as psycopg misreads an array of bytea where bytea_output is escape.
        self._now = {
            (as_dumped(row["schema"]), as_dumped(row["name"])): _LiveTable(
                row["rows"], tuple(map(as_dumped, row["columns"])), tuple(map(as_dumped, row["key"]))
            )
            for row in connection.execute(_TABLES, binary=True)
        }
        self._keys = sorted(self._now.keys() | backup.keys())
        self._segments: dict[Key, list[Segment]] = {}
        for segment in self._reader.manifest.database.segments if self._reader else ():
            if segment.kind == "copy":
                self._segments.setdefault((segment.schema, segment.table), []).append(segment)

    def quick(self) -> list[TableDiff]:
        """Return the tables with the server's estimates."""
        return [self._diff(key, self._now[key].rows if key in self._now else None, approximate=True) for key in self._keys]

    def exact(self, until: float) -> list[TableDiff]:
        """Return the tables with their rows counted and, as far as it can be done `until` (of time.monotonic), compared.

        Each table is of one moment, but not all of them: one transaction would hold a lock for every table. The connection
        must not be used for anything else afterwards. Raise ArchiveError if the archive is damaged.
        """
        timezone = self._reader.manifest.database.facts.get("timezone") if self._reader else None
        self._connection.execute(sql.SQL(_AS_PG_DUMP).format(timezone=sql.Literal(timezone)))
        counts = {key: self._count(key) if key in self._now else None for key in self._keys}
        found = self._compare(until)
        for key, rows in found.items():
            counts[key] = self._backup.get(key, 0) - rows.added + rows.lost  # at the moment of the comparison
        return [replace(self._diff(key, counts[key], approximate=False), rows=found.get(key)) for key in self._keys]

    def _diff(self, key: Key, rows_now: int | None, approximate: bool) -> TableDiff:
        now = self._now[key].columns if key in self._now else ()
        then = self._columns_then(key) if key in self._now else None
        added = [column for column in then if column not in now] if then is not None else []
        lost = [column for column in now if column not in then] if then is not None else []
        schema, name = self._readable(key)
        rows = self._backup.get(key)
        return TableDiff(schema, name, rows_now, rows, approximate, self._readable(added), self._readable(lost))

    def _readable(self, names: Iterable[str]) -> tuple[str, ...]:
        return tuple(readable(name, self._encoding) for name in names)

    def _columns_then(self, key: Key) -> tuple[str, ...] | None:
        """Return a table's columns in the backup; None where they are not known."""
        statements = {segment.statement for segment in self._segments.get(key, ())}
        return copied_columns(statements.pop()) if len(statements) == 1 else None

    def _count(self, key: Key) -> int:
        """Return how many rows a table has now. It can take minutes, and longer while another session locks the table."""
        cancel = partial(self._connection.cancel_safe, timeout=CANCEL_SECONDS)
        return self._meter.during(partial(count_rows, self._connection, *key), cancel)

    def _compare(self, until: float) -> dict[Key, RowsDiff]:
        """Return how the rows differ of those tables that can be compared in time: the small ones first."""
        found: dict[Key, RowsDiff] = {}
        if self._reader is None:
            return found
        self._connection.execute("SET row_security = off")  # a table of which we see only a part is not compared
        for table in sorted(self._comparable(), key=_size):
            if time.monotonic() > until:
                break
            rows = compare_rows(self._connection, table, self._reader, until, self._meter)
            if rows is not None:
                found[table.schema, table.name] = rows
        return found

    def _comparable(self) -> Iterator[ComparedTable]:
        """Yield the tables that have the same columns now and in the backup."""
        for key, now in self._now.items():
            then = self._columns_then(key)
            if then is not None and sorted(then) == sorted(now.columns):
                primary_key = now.key if set(now.key) <= set(then) else ()
                yield ComparedTable(*key, then, primary_key, self._encoding, self._segments[key])


def _encoding(connection: Connection) -> str:
    """Return the name of the database's encoding."""
    row = connection.execute("SELECT getdatabaseencoding()::text AS encoding").fetchone()
    return str(row["encoding"]) if row else ""


def _size(table: ComparedTable) -> int:
    return sum(segment.size_bytes for segment in table.segments)
