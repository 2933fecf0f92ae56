"""Hostile SQL in an archive from elsewhere: refused with the reason, and nothing of it has happened."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.errors import EngineError, RestoreBlocked, RestoreError
from app.engine.restore.restore import restore
from app.engine.restore.swap import discard, undo
from tests.support.cluster import Facts, changes, cluster_facts
from tests.support.databases import admin_connection
from tests.support.hostile import archive_with_dump, dump_of
from tests.support.hostile_sql import COMMANDS, LEFT_OUT, REFUSED
from tests.support.restoring import Live, pristine


@pytest.fixture(scope="module")
def live(pg18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A live pair; whatever hostile archives try, it stays as it was."""
    script = b"CREATE TABLE notes (id integer, text text); INSERT INTO notes VALUES (1, 'live')"
    folder = tmp_path_factory.mktemp("hostile")
    with pristine(pg18, tmp_path_factory.mktemp("pristine"), script) as made, made.live(folder) as live:
        before = live.state()
        yield live
        assert live.state() == before
        assert live.remains() == []


@pytest.fixture
def marker() -> Iterator[Path]:
    """A path where the server as well as we could make a file, and where none must be."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    folder.chmod(0o777)
    yield folder / "marker"
    found = list(folder.iterdir())
    shutil.rmtree(folder)
    assert found == []


def cluster(live: Live) -> Facts:
    """Return what the server knows beside the live database's own objects."""
    return cluster_facts(live.server, without=(live.name,))


def archive(tmp_path: Path, live: Live, marker: Path, statement: str) -> Path:
    text = statement.replace("{marker}", str(marker)).replace("{live}", live.name).replace("{owner}", live.owner)
    return archive_with_dump(tmp_path / "hostile.tar.gz", dump_of(text.encode()))


@pytest.mark.parametrize("as_superuser", [True, False], ids=["superuser", "owner"])
@pytest.mark.parametrize("what", REFUSED)
def test_it_is_refused_and_nothing_has_happened(
    live: Live, tmp_path: Path, marker: Path, what: str, as_superuser: bool
) -> None:
    before = cluster(live)
    hostile = archive(tmp_path, live, marker, REFUSED[what])
    request = live.request(hostile, url=live.admin_url if as_superuser else None)
    began = time.monotonic()

    with pytest.raises(EngineError) as refusal:
        restore(request)

    assert time.monotonic() - began < 20
    assert isinstance(refusal.value, RestoreError)
    assert any(reason in str(refusal.value) for reason in ("psql command", "refused", "is not complete"))
    if what in COMMANDS and not REFUSED[what].startswith("SELECT"):
        assert isinstance(refusal.value, RestoreBlocked)
    assert changes(before, cluster(live)) == {}
    assert live.remains() == []


@pytest.mark.parametrize("what", LEFT_OUT)
def test_it_has_no_effect(live: Live, tmp_path: Path, marker: Path, what: str) -> None:
    before, state = cluster(live), live.state()
    request = live.request(archive(tmp_path, live, marker, LEFT_OUT[what]), url=live.admin_url, scope="database")

    restore(request)

    with psycopg.connect(live.url) as connection:
        assert connection.execute("SELECT * FROM notes").fetchall() == [(1, "kept")]
        (owners,) = connection.execute(
            "SELECT array_agg(DISTINCT tableowner::text) FROM pg_tables WHERE schemaname = 'public'"
        )
        assert owners == ([live.owner],)
    # The way back is the state before, so that the next test finds it.
    undo(live.state_dir, request.restore_id, live.source(live.admin_url))
    discard(live.state_dir, request.restore_id, live.source(live.admin_url))
    assert live.state() == state
    assert changes(before, cluster(live)) == {}


def test_a_prepared_transaction_does_not_keep_the_staging_database(tmp_path: Path, marker: Path) -> None:
    (tmp_path / "pristine").mkdir()
    (tmp_path / "live").mkdir()
    settings = {"max_prepared_transactions": "3"}
    with EmbeddedPostgres(18, tmp_path / "server", durable=False, settings=settings) as server:
        with pristine(server, tmp_path / "pristine", b"SELECT 1") as made, made.live(tmp_path / "live") as live:
            for end in ("BEGIN;", ""):
                statement = f"BEGIN; CREATE TABLE public.p (i int); PREPARE TRANSACTION 'hostile'; {end}"
                with pytest.raises(RestoreError):
                    restore(live.request(archive(tmp_path, live, marker, statement)))
                assert live.remains() == []
            with psycopg.connect(live.url, autocommit=True) as connection:
                connection.execute("BEGIN; CREATE TABLE mine (i int); PREPARE TRANSACTION 'mine'")
                with pytest.raises(RestoreBlocked, match="prepared transaction"):
                    restore(live.request(archive(tmp_path, live, marker, "SELECT 1;")))
                connection.execute("ROLLBACK PREPARED 'mine'")
            assert live.remains() == []


def test_a_superuser_as_the_only_owner_blocks_until_it_is_trusted(live: Live, tmp_path: Path, marker: Path) -> None:
    good = archive(tmp_path, live, marker, "SELECT 1;")
    with admin_connection(live.server) as connection:
        connection.execute(f"ALTER DATABASE {live.name} OWNER TO postgres")
    try:
        with pytest.raises(RestoreBlocked, match="belongs to the superuser postgres"):
            restore(live.request(good, url=live.admin_url))
    finally:
        with admin_connection(live.server) as connection:
            connection.execute(f"ALTER DATABASE {live.name} OWNER TO {live.owner}")


def test_a_role_that_may_not_create_roles_blocks_until_it_is_trusted(live: Live, tmp_path: Path, marker: Path) -> None:
    good = archive(tmp_path, live, marker, "SELECT 1;")
    with admin_connection(live.server) as connection:
        connection.execute(f"ALTER ROLE {live.owner} NOCREATEROLE")
    try:
        with pytest.raises(RestoreBlocked, match="may not create the sandbox role"):
            restore(live.request(good))
    finally:
        with admin_connection(live.server) as connection:
            connection.execute(f"ALTER ROLE {live.owner} CREATEROLE")
