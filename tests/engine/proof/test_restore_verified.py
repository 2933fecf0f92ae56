"""Proving a backup by restoring it into a scratch database, of which nothing is left, however the run ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.proof.restore_test import RestoreTest, verify_by_restoring
from app.engine.restore.restore import restore
from tests.support.archives import KEY, backup
from tests.support.databases import admin_connection, drop_database
from tests.support.hostile import archive_with_dump, dump_of
from tests.support.restoring import Live, Pristine, pristine
from tests.support.restoring_child import killed_at

SCRIPT = b"CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 500); CREATE TABLE u (id int);"


@pytest.fixture(scope="module")
def small(pg18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pristine]:
    with pristine(pg18, tmp_path_factory.mktemp("pristine"), SCRIPT) as made:
        yield made


@pytest.fixture
def live(small: Pristine, tmp_path: Path) -> Iterator[Live]:
    """A live pair, which no test restore touches."""
    with small.live(tmp_path) as live:
        before = live.state()
        yield live
        assert live.state() == before
        assert live.remains() == []


@pytest.mark.parametrize("as_superuser", [False, True], ids=["owner", "superuser"])
def test_a_good_archive_is_proven(small: Pristine, live: Live, as_superuser: bool) -> None:
    target = live.source(live.admin_url if as_superuser else None)

    report = verify_by_restoring(RestoreTest(small.archive, target, KEY, uuid4()))

    assert (report.ok, report.problems, report.tables, report.rows) == (True, [], 2, 500)
    assert report.seconds > 0


def test_a_damaged_one_is_not(small: Pristine, live: Live, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tar.gz"
    data = bytearray(small.archive.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)

    report = verify_by_restoring(RestoreTest(damaged, live.source(), KEY, uuid4()))

    assert not report.ok
    assert report.rows == 0


def test_one_from_elsewhere_is_never_executed_for_a_test(live: Live, small: Pristine, tmp_path: Path) -> None:
    foreign = archive_with_dump(tmp_path / "foreign.tar.gz", dump_of())

    assert not verify_by_restoring(RestoreTest(foreign, live.source(), KEY, uuid4())).ok
    report = verify_by_restoring(RestoreTest(small.archive, live.source(), b"another key", uuid4()))
    assert "not signed by this installation" in report.problems[0]


def test_progress_that_raises_leaves_nothing(small: Pristine, live: Live) -> None:
    class Stop(Exception):
        pass

    def progress(phase: str, done: int, total: int | None) -> None:
        if phase == "indexes":
            raise Stop

    with pytest.raises(Stop):
        verify_by_restoring(RestoreTest(small.archive, live.source(live.admin_url), KEY, uuid4()), progress)


def test_what_a_killed_one_has_left_is_dropped_by_the_next(small: Pristine, live: Live) -> None:
    as_superuser = replace(live, url=live.admin_url)
    killed_at("load_tables.copy_in 1 after", "verify", as_superuser, small.archive)
    assert [name.split()[0] for name in live.remains()] == ["database", "role"]

    assert verify_by_restoring(RestoreTest(small.archive, live.source(live.admin_url), KEY, uuid4())).ok

    assert live.remains() == []


def test_a_database_that_is_only_named_alike_is_left_alone(small: Pristine, live: Live) -> None:
    other = f"{live.name}_test_of_ours"
    with admin_connection(live.server) as connection:
        connection.execute(f"CREATE DATABASE {other}")

    assert verify_by_restoring(RestoreTest(small.archive, live.source(), KEY, uuid4())).ok

    assert live.remains() == [f"database {other}"]
    drop_database(live.server, other)


def test_what_only_a_superuser_may_make_comes_back_by_a_superuser(small: Pristine, tmp_path: Path) -> None:
    """Loaded by a temporary role with the owner's rights; what that may not do, the superuser does."""
    with small.live(tmp_path) as live:
        with admin_connection(live.server, live.name) as connection:
            connection.execute(
                "CREATE TABLE of_the_superuser (id int CHECK (id > 0)); INSERT INTO of_the_superuser VALUES (1), (2);"
                "CREATE SCHEMA secret; CREATE TABLE secret.t (id serial PRIMARY KEY); INSERT INTO secret.t DEFAULT VALUES;"
                "GRANT SELECT ON of_the_superuser TO pg_monitor; COMMENT ON TABLE of_the_superuser IS 'mine';"
                "CREATE FUNCTION f(bytea) RETURNS bytea LANGUAGE internal STRICT AS 'md5_bytea';"
                "CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
                "CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION e();"
                "CREATE PUBLICATION everything FOR ALL TABLES;"
                "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
                "CREATE CAST (int4 AS box) WITH INOUT;"
                "ALTER DEFAULT PRIVILEGES IN SCHEMA secret GRANT SELECT ON TABLES TO pg_monitor;"
                "CREATE TABLE of_another (id int); ALTER TABLE of_another OWNER TO pg_monitor;"
                "GRANT SELECT ON of_another TO pg_read_all_stats; CREATE INDEX ON of_another (id);"
                "ALTER DEFAULT PRIVILEGES FOR ROLE pg_monitor GRANT SELECT ON TABLES TO pg_read_all_stats;"
            )
        storage = tmp_path / "backups"
        storage.mkdir()
        before = live.state()
        made = backup(live.admin_url, live.documents, storage)
        with admin_connection(live.server, live.name) as connection:
            connection.execute("DROP TABLE of_the_superuser; DROP SCHEMA secret CASCADE; DROP EVENT TRIGGER t")
        request = live.request(made.path, url=live.admin_url, scope="database")

        result = restore(request)

        assert result.warnings == []
        assert live.state() == before
        assert live.remains() == live.kept(request.restore_id, documents=False)
