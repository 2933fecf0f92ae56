"""What the planner knows after a restore: from the archive where it has that, else by ANALYZE."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres, postgres_bin_dir
from app.engine.backup import parallel_dump
from app.engine.backup.backup import BackupRequest, make_backup
from app.engine.proof.restore_test import RestoreTest, verify_by_restoring
from app.engine.restore.restore import restore
from app.engine.source.preflight import Source
from tests.support.archives import APP, KEY, backup
from tests.support.databases import fresh_source
from tests.support.dumping import dumped, zcat
from tests.support.hostile import plain_tar
from tests.support.restoring import Live, Pristine, pristine

SCRIPT = b"""
CREATE TABLE known (id integer PRIMARY KEY, t text) WITH (autovacuum_analyze_threshold = 1000000);
CREATE INDEX known_lower ON known (lower(t));
CREATE SCHEMA "o'dd \\";
CREATE TABLE "o'dd \\"."ta'b\\le" (id integer PRIMARY KEY, "na'me" text)
    WITH (autovacuum_analyze_threshold = 1000000);
CREATE TABLE without_index (n integer);
CREATE TABLE extended (a integer PRIMARY KEY, b integer);
CREATE STATISTICS extended_ab ON a, b FROM extended;
CREATE TABLE uncounted (id integer PRIMARY KEY) WITH (autovacuum_enabled = off);
CREATE TABLE never_analyzed (id integer PRIMARY KEY, n integer);
CREATE TABLE parent (n integer) PARTITION BY RANGE (n);
CREATE TABLE part PARTITION OF parent FOR VALUES FROM (0) TO (10000);
CREATE INDEX ON parent (n);
INSERT INTO uncounted SELECT generate_series(1, 600);
INSERT INTO known SELECT n, 'Row ' || n % 50 FROM generate_series(1, 2000) n;
INSERT INTO "o'dd \\"."ta'b\\le" SELECT n, 'x' FROM generate_series(1, 100) n;
INSERT INTO without_index SELECT generate_series(1, 300);
INSERT INTO extended SELECT n, n % 5 FROM generate_series(1, 400) n;
INSERT INTO parent SELECT generate_series(1, 500);
ANALYZE;
INSERT INTO never_analyzed SELECT n, n % 3 FROM generate_series(1, 200) n;
"""
# Values that no ANALYZE would find, so that it shows where they come from.
MARKS = """
SELECT pg_restore_attribute_stats('schemaname', s, 'relname', r, 'attname', a, 'inherited', i,
    'null_frac', 0.123::real, 'avg_width', 5, 'n_distinct', 7::real)
FROM (VALUES ('public', 'known', 't', false), ('public', 'without_index', 'n', false), ('public', 'extended', 'b', false),
    ('public', 'uncounted', 'id', false), ('public', 'known_lower', 'lower', false), ('public', 'parent', 'n', true),
    ($$o'dd \\$$, $$ta'b\\le$$, $$na'me$$, false)) AS of_column (s, r, a, i);
SELECT pg_restore_relation_stats('schemaname', 'public', 'relname', 'known', 'relpages', 999, 'reltuples', 5::real);
""".replace("\\\\", "\\")
COLUMNS = """
SELECT format('%I.%I.%I%s', schemaname, tablename, attname, CASE WHEN inherited THEN ', all' END), null_frac
FROM pg_stats WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""
MARKED = pytest.approx(0.123)


@pytest.fixture(scope="module")
def made(pg18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pristine]:
    with pristine(pg18, tmp_path_factory.mktemp("statistics"), SCRIPT + MARKS.encode()) as made:
        yield made


@pytest.fixture
def live(made: Pristine, tmp_path: Path) -> Iterator[Live]:
    """A live pair with an empty database."""
    with made.live(tmp_path) as live:
        with psycopg.connect(live.url) as connection:
            connection.execute("DROP OWNED BY CURRENT_USER CASCADE")
        yield live


def known_columns(url: str) -> dict[str, Any]:
    with psycopg.connect(url) as connection:
        return dict(connection.execute(COLUMNS).fetchall())


def rows_and_pages(url: str) -> dict[str, tuple[float, bool]]:
    """Return for each table how many rows the planner expects, and whether in as many pages as it has."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT relname, reltuples, relpages = pg_relation_size(oid) / 8192 FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace NOT IN (11, to_regnamespace('information_schema'))"
        ).fetchall()
    return {name: (tuples, is_right) for name, tuples, is_right in rows}


RIGHT = {
    "known": (2000.0, True),
    "ta'b\\le": (100.0, True),
    "without_index": (300.0, True),
    "extended": (400.0, True),
    "uncounted": (600.0, True),
    "never_analyzed": (200.0, True),
    "part": (500.0, True),
}
ANALYZED = {
    "public.known.id",
    "public.known.t",
    "public.known_lower.lower",
    """"o'dd \\"."ta'b\\le".id""",
    """"o'dd \\"."ta'b\\le"."na'me\"""",
    "public.without_index.n",
    "public.extended.a",
    "public.extended.b",
    "public.uncounted.id",
    "public.never_analyzed.id",
    "public.never_analyzed.n",
    "public.part.n",
}


def assert_statistics_are_the_archives(url: str) -> None:
    found = known_columns(url)
    assert found.keys() == ANALYZED | {"public.parent.n, all"}
    marked = {name for name, fraction in found.items() if fraction == MARKED}
    assert marked == {
        "public.known.t",
        "public.known_lower.lower",
        "public.parent.n, all",
        """"o'dd \\"."ta'b\\le"."na'me\"""",
    }
    assert rows_and_pages(url) == RIGHT
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n_distinct IS NOT NULL FROM pg_stats_ext").fetchall() == [(True,)]


def test_the_columns_statistics_come_from_the_archive_and_what_it_lacks_from_analyze(made: Pristine, live: Live) -> None:
    restore(live.request(made.archive))

    assert_statistics_are_the_archives(live.url)


def test_several_pg_dumps_write_them_once(
    made: Pristine, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_dump, "LARGE_TABLE_BYTES", 8192)
    (tmp_path / "backups").mkdir()
    url = made.server.url(made.name, made.owner, made.password)

    result = backup(url, made.documents, tmp_path / "backups", threads=4)

    text = zcat(result.path, tmp_path / "out")
    assert text.count(b"'relname', 'known',\n\t'attname', 't'") == 1
    restore(live.request(result.path, threads=4))
    assert_statistics_are_the_archives(live.url)


@contextmanager
def without_createdb(live: Live) -> Iterator[None]:
    with psycopg.connect(live.admin_url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {live.owner} NOCREATEDB")
        yield
        connection.execute(f"ALTER ROLE {live.owner} CREATEDB")


def test_inside_the_live_database_they_come_from_the_archive(made: Pristine, live: Live) -> None:
    with without_createdb(live):
        result = restore(live.request(made.archive))

    assert result.strategy == "in_place"
    assert known_columns(live.url)["public.known.t"] == MARKED


@pytest.mark.parametrize("trusted", [False, True])
def test_those_of_an_archive_from_elsewhere_are_not_believed(made: Pristine, live: Live, trusted: bool) -> None:
    restore(live.request(made.archive, signing_key=b"another installation's signing key", trusted=trusted))

    found = known_columns(live.url)
    assert found.keys() == ANALYZED | {"public.parent.n, all"}
    assert (MARKED in found.values()) == trusted


@pytest.fixture
def unacceptable(made: Pristine, tmp_path: Path) -> Path:
    """An archive with statistics that no server takes: of one column of `known`, of the parent and the index all."""
    programs, storage = tmp_path / "bin", tmp_path / "unacceptable"
    programs.mkdir()
    storage.mkdir()
    wrapper = programs / "pg_dump"
    wrapper.write_text(
        "#!/bin/bash\nset -o pipefail\n"
        f"'{made.server.bin_dir / 'pg_dump'}' \"$@\" | sed \"s/'null_frac', '0.123'/'null_frac', 'none'/\"\n"
    )
    wrapper.chmod(0o755)
    source = Source(made.server.url(made.name, made.owner, made.password), made.documents, APP, programs)
    return make_backup(BackupRequest(source, storage, KEY, uuid4(), disk_reserve=0)).path


def test_statistics_that_the_server_refuses_are_found_by_analyze(made: Pristine, live: Live, unacceptable: Path) -> None:
    report = verify_by_restoring(RestoreTest(unacceptable, live.source(), KEY, uuid4()))
    result = restore(live.request(unacceptable))

    assert (report.problems, result.warnings) == ([], [])
    found = known_columns(live.url)
    assert found.keys() >= ANALYZED
    assert MARKED not in found.values()
    assert rows_and_pages(live.url) == RIGHT


def test_refused_inside_the_live_database_they_are_left_out(live: Live, unacceptable: Path) -> None:
    with without_createdb(live):
        result = restore(live.request(unacceptable))

    assert "none" in " ".join(result.warnings)
    assert "public.known.id" in known_columns(live.url)


@pytest.mark.parametrize("trusted", [False, True])
def test_from_elsewhere_no_server_is_asked(made: Pristine, live: Live, tmp_path: Path, trusted: bool) -> None:
    text = dumped(made.server.bin_dir, made.server.url(made.name), "--statistics")
    assert b"'null_frac', '0.123'" in text
    archive = plain_tar(tmp_path / "a.tar.gz", text.replace(b"'null_frac', '0.123'", b"'null_frac', 'none'"), made.documents)

    result = restore(live.request(archive, trusted=trusted))

    assert not any("none" in warning for warning in result.warnings)
    assert known_columns(live.url).keys() == ANALYZED | {"public.parent.n, all"}


@pytest.mark.parametrize("client", [16, 18])
def test_an_older_server_gets_none_whatever_the_pg_dump(
    pg16: EmbeddedPostgres, client: int, documents_dir: Path, storage_dir: Path, tmp_path: Path
) -> None:
    with fresh_source(pg16) as source:
        with psycopg.connect(source.url) as connection:
            connection.execute(
                "CREATE TABLE a (id integer PRIMARY KEY); INSERT INTO a SELECT generate_series(1, 9); ANALYZE a"
            )
        from_16 = Source(source.url, documents_dir, APP, postgres_bin_dir(client))

        result = make_backup(BackupRequest(from_16, storage_dir, KEY, uuid4(), disk_reserve=0))

        assert result.manifest.database.pg_dump_version.startswith(str(client))
        assert b"pg_restore_" not in zcat(result.path, tmp_path / "out")
