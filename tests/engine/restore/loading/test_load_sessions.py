"""How the sessions of a restore are set: only what fits the server's cache is read without its I/O workers."""

from __future__ import annotations

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.archive.reader import open_archive
from app.engine.progress import Meter
from app.engine.restore.loading import load_ours
from app.engine.source.postgres import Connection, connect
from tests.support.archives import KEY, Archive
from tests.support.databases import fresh_source

SETTINGS = """
SELECT current_setting('effective_io_concurrency') AS reads, current_setting('maintenance_io_concurrency') AS others,
       current_setting('synchronous_commit') AS commits
"""


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_small_database_is_read_without_io_workers(
    is_cached: bool, small_archive: Archive, pg18: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Connection] = []
    with fresh_source(pg18) as target, open_archive(small_archive.path, KEY) as reader:
        size = reader.manifest.database.sql_bytes
        monkeypatch.setattr(load_ours, "CACHED_BYTES", size if is_cached else size - 1)

        def opening() -> Connection:
            opened.append(connect(target.url, "test"))
            return opened[-1]

        loader = load_ours.ArchiveLoader(reader, opening, 2, Meter(None))
        try:
            loader.load()
            rows = [connection.execute(SETTINGS).fetchone() for connection in opened]
        finally:
            loader.close()
        with psycopg.connect(target.url) as connection:
            default = connection.execute("SHOW effective_io_concurrency").fetchone()
            default_of_others = connection.execute("SHOW maintenance_io_concurrency").fetchone()

    assert default is not None
    assert default_of_others is not None
    assert default[0] != "0"
    wanted = ("0", "0") if is_cached else (default[0], default_of_others[0])
    assert [(row["reads"], row["others"], row["commits"]) for row in rows if row] == [(*wanted, "off")] * 3
