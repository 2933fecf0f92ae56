"""The database that hurts, and small ones that a test can watch being dumped."""

from __future__ import annotations

from pathlib import Path

from tests.support.databases import SourceDatabase, psql

HARD_SCHEMA = Path(__file__).with_name("hard_schema.sql")


def fill_hard(source: SourceDatabase) -> None:
    """Fill an empty database with the schema of hard_schema.sql, as its owner."""
    psql(source.bin_dir, source.url, HARD_SCHEMA.read_bytes())


def fill_rows(source: SourceDatabase, table: str = "bulk", rows: int = 60_000, width: int = 8) -> None:
    """Create a table of `rows` rows of `width` × 32 characters each that hardly compress."""
    psql(
        source.bin_dir,
        source.url,
        f"CREATE TABLE {table} (id integer PRIMARY KEY, t text);"
        f"INSERT INTO {table} SELECT n, (SELECT string_agg(md5(n::text || k), '') FROM generate_series(1, {width}) k)"
        f" FROM generate_series(1, {rows}) n;",
    )
