"""Memory stays below 250 MB however wide the rows, however many the documents and the threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.archive.reader import open_archive
from tests.support.archives import APP, KEY, backup
from tests.support.backup_process import ROOT, backup_in_a_process
from tests.support.databases import SourceDatabase, fresh_source

MOST = 250 * 10**6
RESTORED = """
import re, resource, sys
from pathlib import Path
from uuid import uuid4
from app.engine.restore.request import RestoreRequest
from app.engine.restore.restore import restore
from app.engine.source.preflight import Source

archive, url, documents, app, state, threads = sys.argv[1:]
target = Source(url, Path(documents), app)
key = b"a signing key for the tests"
restore(RestoreRequest(Path(archive), target, Path(state), key, uuid4(), disk_reserve=0, threads=int(threads)))
if sys.platform == "linux":
    # ru_maxrss would count what the parent took before it started us.
    print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024)
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


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
    with open_archive(Path(answer["path"])) as reader:
        [table] = reader.manifest.tables
        assert (table.rows, table.bytes > 350 * 10**6) == (11, True)


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", [3_000, 30_000])
def test_tiny_tables(documents_dir: Path, storage_dir: Path, tmp_path: Path, count: int) -> None:
    settings = {"max_locks_per_transaction": "1000"}  # a backup locks every table
    with (
        EmbeddedPostgres(18, tmp_path / "pg", durable=False, socket_dir=tmp_path / "socket", settings=settings) as server,
        fresh_source(server) as source,
    ):
        with psycopg.connect(source.url, autocommit=True) as connection:
            for start in range(0, count, 500):  # a transaction holds a lock for each table that it makes
                numbers = range(start, min(count, start + 500))
                connection.execute(";".join(f"CREATE TABLE tiny_{n} AS SELECT {n} AS id" for n in numbers))
        answer = backup_in_a_process(source.url, documents_dir, storage_dir, threads=2)
    assert answer["problems"] == []
    assert answer["peak_bytes"] < MOST
    with open_archive(Path(answer["path"]), KEY) as reader:
        assert (len(reader.manifest.tables), sum(table.rows for table in reader.manifest.tables)) == (count, count)


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


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("threads", [2, 16])
@pytest.mark.parametrize("rows", ["wide", "many"])
def test_a_restore(
    source_db: SourceDatabase, documents_dir: Path, storage_dir: Path, tmp_path: Path, threads: int, rows: str
) -> None:
    with psycopg.connect(source_db.url, autocommit=True) as connection:
        if rows == "wide":
            connection.execute("CREATE TABLE wide (id int, text text)")
            for number, megabytes in enumerate((1, 64, 33, 64, 64)):
                for_sql = "INSERT INTO wide SELECT %s, string_agg(md5(n::text), '') FROM generate_series(1, %s) n"
                connection.execute(for_sql, [number, megabytes * 32_768])
        else:
            for table in ("fuel", "trips", "log"):
                connection.execute(
                    f"CREATE TABLE {table} AS SELECT n, md5(n::text) AS a, md5((n * 7)::text) AS b"
                    " FROM generate_series(1, 2000000) n"
                )
    made = backup(source_db.url, documents_dir, storage_dir)
    live, state = tmp_path / "live" / "documents", tmp_path / "state"
    live.mkdir(parents=True)
    arguments = [made.path, source_db.url, live, APP, state, threads]
    done = subprocess.run(
        [sys.executable, "-c", RESTORED, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    print("peak memory of the restore:", int(done.stdout) // 10**6, "MB")
    assert int(done.stdout) < MOST
    with psycopg.connect(source_db.url) as connection:
        found = connection.execute("SELECT count(*) FROM pg_stat_user_tables").fetchone()
    assert found == (1 if rows == "wide" else 3,)
