"""Memory stays below 250 MB however wide the rows and however many the documents."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest

from app.engine import ArchiveReader
from tests.engine.test_documents_many import backup_in_a_process
from tests.support.databases import SourceDatabase

MOST = 250 * 10**6


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("threads", [2, 8])
def test_rows_of_1_to_64_mb(source_db: SourceDatabase, documents_dir: Path, storage_dir: Path, threads: int) -> None:
    with psycopg.connect(source_db.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE wide (id int, text text)")
        connection.execute("ALTER TABLE wide ALTER text SET STORAGE EXTERNAL")
        for number, megabytes in enumerate((1, 64, 2, 33, 64, 16, 1, 48, 64, 5, 64)):
            for_sql = "INSERT INTO wide SELECT %s, string_agg(md5(n::text), '') FROM generate_series(1, %s) n"
            connection.execute(for_sql, [number, megabytes * 32_768])
    answer = backup_in_a_process(source_db.url, documents_dir, storage_dir, threads=threads)
    assert answer["problems"] == []
    assert answer["peak_bytes"] < MOST
    with ArchiveReader(Path(answer["path"])) as reader:
        [table] = reader.manifest.tables
        assert (table.rows, table.bytes > 350 * 10**6) == (11, True)


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("threads", [2, 8])
def test_a_large_table_and_many_documents(
    source_db: SourceDatabase, storage_dir: Path, tmp_path: Path, threads: int
) -> None:
    with psycopg.connect(source_db.url, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE log AS SELECT n, md5(n::text) AS a, md5((n * 7)::text) AS b FROM generate_series(1, 4000000) n"
        )
    documents = tmp_path / "documents"
    for user in range(200):
        (documents / str(user)).mkdir(parents=True)
        for number in range(50):
            (documents / str(user) / f"{number}.jpg").write_bytes(os.urandom(20_000))
    answer = backup_in_a_process(source_db.url, documents, storage_dir, threads=threads)
    assert answer["warnings"] == answer["problems"] == []
    assert answer["peak_bytes"] < MOST
