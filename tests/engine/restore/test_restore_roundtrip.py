"""Backup, change everything, restore: the database and the documents are what they were, in every bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.errors import RestoreBlocked
from app.engine.restore.preview.preview import preview
from app.engine.restore.restore import restore
from app.engine.restore.swap import discard, undo
from tests.support.databases import admin_connection
from tests.support.restoring import Live, Pristine, change_everything, documents_in, dumped_whole, pristine

ALL_OF_16 = b"SELECT,INSERT,REFERENCES,DELETE,TRIGGER,TRUNCATE,UPDATE"
"""What GRANT ALL meant before 17 brought MAINTAIN."""


@pytest.fixture(scope="module", params=[16, 18], ids=["pg16", "pg18"])
def hard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pristine]:
    server: EmbeddedPostgres = request.getfixturevalue(f"pg{request.param}")
    with pristine(server, tmp_path_factory.mktemp("pristine")) as made:
        yield made


@pytest.fixture
def live(hard: Pristine, tmp_path: Path) -> Iterator[Live]:
    with hard.live(tmp_path) as live:
        yield live


def test_everything_is_back_undone_and_done_again(hard: Pristine, live: Live) -> None:
    original = live.state()
    change_everything(live)
    changed = live.state()
    assert changed != original
    request = live.request(hard.archive)

    result = restore(request)

    assert result.warnings == []
    assert (result.strategy, result.undo_possible) == ("swap", True)
    assert live.state() == original
    assert live.remains() == live.kept(request.restore_id)
    rows = {(table.schema, table.name): table.rows_backup for table in result.tables}
    assert rows["public", "bulk"] == 20_000
    assert result.documents_after == len([d for d in original.documents.values() if len(d[4]) == 64])

    undo(live.state_dir, request.restore_id, live.source())
    assert live.state() == changed
    assert live.remains() == live.kept(request.restore_id)

    undo(live.state_dir, request.restore_id, live.source())
    assert live.state() == original
    assert live.remains() == live.kept(request.restore_id)

    discard(live.state_dir, request.restore_id, live.source())
    assert live.state() == original
    assert live.remains() == []


def test_a_superuser_restores_it_to_the_same_owner(hard: Pristine, live: Live) -> None:
    original = live.state()
    change_everything(live)
    request = live.request(hard.archive, url=live.admin_url)

    result = restore(request)

    assert result.warnings == []
    assert live.state() == original
    with admin_connection(live.server, live.name) as connection:
        owners = connection.execute(
            "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE oid >= 16384 AND relnamespace <> 99"
        ).fetchall()
    assert owners == [(live.owner,)]


def test_without_createdb_it_is_restored_in_place(hard: Pristine, live: Live) -> None:
    original = live.state()
    change_everything(live)
    with admin_connection(live.server) as connection:
        connection.execute(f"ALTER ROLE {live.owner} NOCREATEDB")
    request = live.request(hard.archive)
    try:
        result = restore(request)
    finally:
        with admin_connection(live.server) as connection:
            connection.execute(f"ALTER ROLE {live.owner} CREATEDB")

    assert (result.strategy, result.undo_possible) == ("in_place", False)
    assert live.state() == original
    assert live.remains() == []


@pytest.mark.parametrize("scope", ["database", "documents"])
def test_a_scope_leaves_the_other_half_alone(hard: Pristine, live: Live, scope: str) -> None:
    original = live.state()
    change_everything(live)
    changed = live.state()
    request = live.request(hard.archive, scope=scope)

    restore(request)

    now = live.state()
    assert now.dump == (original if scope == "database" else changed).dump
    assert now.documents == (original if scope == "documents" else changed).documents
    assert live.remains() == live.kept(request.restore_id, scope == "database", scope == "documents")

    undo(live.state_dir, request.restore_id, live.source())
    assert live.state() == changed
    discard(live.state_dir, request.restore_id, live.source())
    assert live.state() == changed
    assert live.remains() == []


@pytest.fixture(scope="module")
def hard16(pg16: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pristine]:
    with pristine(pg16, tmp_path_factory.mktemp("pristine16")) as made:
        yield made


@pytest.fixture(scope="module")
def hard18(pg18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pristine]:
    with pristine(pg18, tmp_path_factory.mktemp("pristine18"), b"CREATE TABLE small (id integer);") as made:
        yield made


def test_a_backup_of_16_is_restored_on_18(
    hard16: Pristine, hard18: Pristine, pg18: EmbeddedPostgres, tmp_path: Path
) -> None:
    with admin_connection(pg18) as connection:
        connection.execute(f"CREATE ROLE {hard16.owner}")
        connection.execute(f"GRANT {hard16.owner} TO {hard18.owner} WITH ADMIN OPTION")
    try:
        with hard18.live(tmp_path) as live:
            request = live.request(hard16.archive)

            result = restore(request)

            assert result.warnings == []
            wanted = dumped_whole(pg18.bin_dir, hard16.server.url(hard16.name), hard16.name)
            assert _without_version(live.state().dump) == _without_version(wanted).replace(ALL_OF_16, b"ALL")
            assert documents_in(live.documents) == documents_in(hard16.documents)
    finally:
        with admin_connection(pg18) as connection:
            connection.execute(f"DROP ROLE {hard16.owner}")


def _without_version(text: bytes) -> bytes:
    return b"".join(line for line in text.splitlines(keepends=True) if not line.startswith(b"-- Dumped from"))


def test_a_backup_of_18_is_refused_by_16(hard16: Pristine, hard18: Pristine, tmp_path: Path) -> None:
    with hard16.live(tmp_path) as live:
        original = live.state()
        request = live.request(hard18.archive)

        (blocker,) = preview(request).blockers
        assert "PostgreSQL 18" in blocker
        assert "PostgreSQL 16" in blocker
        with pytest.raises(RestoreBlocked, match="PostgreSQL 18"):
            restore(request)

        assert live.state() == original
        assert live.remains() == []


def test_a_role_that_is_missing_is_a_warning(hard18: Pristine, pg18: EmbeddedPostgres, tmp_path: Path) -> None:
    with pristine(pg18, tmp_path_of(tmp_path, "other"), b"CREATE TABLE t (id int); INSERT INTO t VALUES (1)") as other:
        archive = other.archive.read_bytes()
    gone = tmp_path / "gone.tar.gz"
    gone.write_bytes(archive)
    with hard18.live(tmp_path_of(tmp_path, "live")) as live:
        result = restore(live.request(gone))

        assert any("does not exist here" in warning for warning in result.warnings)
        with psycopg.connect(live.url) as connection:
            assert connection.execute("SELECT id, tableowner FROM t, pg_tables WHERE tablename = 't'").fetchall() == [
                (1, live.owner)
            ]


def tmp_path_of(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    return folder
