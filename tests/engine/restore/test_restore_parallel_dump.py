"""An archive that several pg_dumps wrote side by side, its large tables in many COPY blocks, restores like any other."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from app.engine.backup import parallel_dump
from app.engine.restore.request import RestoreRequest
from app.engine.restore.restore import restore
from app.engine.source.preflight import Source
from tests.support.archives import APP, KEY, backup
from tests.support.databases import SourceDatabase, pg_dump

TABLES = """
CREATE TABLE owners (id integer PRIMARY KEY, name text UNIQUE);
CREATE TABLE logs (id bigint PRIMARY KEY, owner integer REFERENCES owners, earlier bigint REFERENCES logs, t text);
CREATE INDEX ON logs (owner, id);
INSERT INTO owners SELECT n, 'owner ' || n FROM generate_series(1, 1000) n;
INSERT INTO logs SELECT n, 1 + n % 1000, nullif(n / 2, 0), repeat(md5(n::text), 8) FROM generate_series(1, 60000) n;
"""


@pytest.mark.parametrize("threads", [1, 4])
def test_tables_in_many_blocks_come_back_with_their_keys(
    source_db_each: SourceDatabase, threads: int, documents_dir: Path, storage_dir: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(parallel_dump, "LARGE_TABLE_BYTES", 8192)
    with psycopg.connect(source_db_each.url) as connection:
        connection.execute(TABLES)
    made = backup(source_db_each.url, documents_dir, storage_dir, threads=4)
    blocks = [segment for segment in made.manifest.database.segments if segment.table == "logs"]
    assert len(blocks) > 2
    before = pg_dump(source_db_each.bin_dir, source_db_each.url, "--restrict-key=a")
    with psycopg.connect(source_db_each.url) as connection:
        connection.execute("DROP TABLE logs, owners")

    target = Source(source_db_each.url, tmp_path / "live" / "documents", APP)
    target.documents_dir.mkdir(parents=True)
    request = RestoreRequest(made.path, target, tmp_path / "state", KEY, uuid4(), disk_reserve=0, threads=threads)
    result = restore(request)

    assert {table.name: table.rows_backup for table in result.tables} == {"logs": 60_000, "owners": 1000}
    assert sorted(pg_dump(source_db_each.bin_dir, source_db_each.url, "--restrict-key=a").splitlines()) == sorted(
        before.splitlines()
    )
