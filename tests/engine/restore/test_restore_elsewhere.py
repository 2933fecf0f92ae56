"""A backup on another server than its own, as on the day the machine is gone: without its tablespaces or its locale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.proof.restore_test import RestoreTest, verify_by_restoring
from app.engine.restore.preview.preview import preview
from app.engine.restore.restore import restore
from app.engine.source import postgres
from tests.support.archives import KEY
from tests.support.databases import admin_connection
from tests.support.dumping import dumped
from tests.support.hostile import plain_tar
from tests.support.restoring import Live, Pristine, pristine

SCRIPT = b"""
CREATE TABLE a (id integer PRIMARY KEY, t text) TABLESPACE {space};
INSERT INTO a SELECT n, n FROM generate_series(1, 100) n;
CREATE INDEX by_text ON a (t) TABLESPACE {space};
CREATE TABLE b (id integer PRIMARY KEY);
INSERT INTO b VALUES (1);
"""
PLAIN = SCRIPT.replace(b" TABLESPACE {space}", b"")
PLACES = """
SELECT c.relname, c.reltablespace FROM pg_class c
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i') ORDER BY 1
"""


@pytest.fixture
def space(pg18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tablespace of the server, in which everybody may create."""
    name = f"space_{tmp_path_factory.mktemp('space').name}"
    with admin_connection(pg18) as connection:
        # Inside the data folder, where the server may make it whoever runs the tests.
        connection.execute("SET allow_in_place_tablespaces = on")
        connection.execute(f"CREATE TABLESPACE {name} LOCATION ''".encode())
        connection.execute(f"GRANT CREATE ON TABLESPACE {name} TO PUBLIC".encode())
    yield name
    with admin_connection(pg18) as connection:
        connection.execute(f"DROP TABLESPACE IF EXISTS {name}".encode())


@pytest.fixture
def gone(pg18: EmbeddedPostgres, space: str, tmp_path: Path) -> Iterator[tuple[Pristine, Live, Path]]:
    """A pair whose tables were in a tablespace that the server does not have any more; and a plain archive of it."""
    (tmp_path / "pristine").mkdir()
    with pristine(pg18, tmp_path / "pristine", SCRIPT.replace(b"{space}", space.encode())) as made:
        text = dumped(pg18.bin_dir, pg18.url(made.name, made.owner, made.password))
        plain = plain_tar(tmp_path / "plain.tar.gz", text, made.documents)
        with psycopg.connect(pg18.url(made.name), autocommit=True) as connection:
            connection.execute("DROP TABLE a")
        with admin_connection(pg18) as connection:
            connection.execute(f"DROP TABLESPACE {space}".encode())
        with made.live(tmp_path) as live:
            yield made, live, plain


def check_places(live: Live) -> None:
    """Everything has to be where the database is."""
    with psycopg.connect(live.url) as connection:
        assert connection.execute("SELECT count(*) FROM a").fetchone() == (100,)
        found = connection.execute(PLACES).fetchall()
    assert found == [("a", 0), ("a_pkey", 0), ("b", 0), ("b_pkey", 0), ("by_text", 0)]


@pytest.mark.parametrize("way", ["swap", "in_place"])
def test_a_tablespace_that_is_not_there_is_done_without(gone: tuple[Pristine, Live, Path], space: str, way: str) -> None:
    made, live, _ = gone
    if way == "in_place":
        with admin_connection(live.server) as connection:
            connection.execute(f"ALTER ROLE {live.owner} NOCREATEDB".encode())
    said = f"The tablespace {space} is not on this server"
    looked = preview(live.request(made.archive))
    assert (looked.blockers, looked.strategy) == ([], way)
    assert [text for text in looked.warnings if said in text]
    result = restore(live.request(made.archive))
    assert len([text for text in result.warnings if said in text]) == 1
    check_places(live)


@pytest.mark.parametrize("trusted", [False, True])
def test_a_plain_archive_does_without_it_too(gone: tuple[Pristine, Live, Path], trusted: bool) -> None:
    _, live, plain = gone
    restore(live.request(plain, trusted=trusted))
    check_places(live)


def test_the_database_stays_in_its_tablespace(pg18: EmbeddedPostgres, space: str, tmp_path: Path) -> None:
    (tmp_path / "pristine").mkdir()
    where = (
        "SELECT spcname FROM pg_database JOIN pg_tablespace t ON t.oid = dattablespace WHERE datname = current_database()"
    )
    with pristine(pg18, tmp_path / "pristine", PLAIN) as made, made.live(tmp_path) as live:
        with admin_connection(pg18) as connection:
            connection.execute(f'ALTER DATABASE "{live.name}" SET TABLESPACE {space}'.encode())
        assert restore(live.request(made.archive)).warnings == []
        with psycopg.connect(live.url) as connection:
            assert connection.execute(where).fetchone() == (space,)
        with admin_connection(pg18) as connection:
            connection.execute(f"REVOKE CREATE ON TABLESPACE {space} FROM PUBLIC".encode())
        (warning,) = restore(live.request(made.archive)).warnings
        assert "default tablespace" in warning
        with psycopg.connect(live.url) as connection:
            assert connection.execute(where).fetchone() == ("pg_default",)


def test_a_locale_that_is_not_there_is_replaced_by_the_live_database_s(
    pg18: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pristine").mkdir()
    real = postgres.server_facts

    def of_another_machine(connection: Any) -> dict[str, Any]:
        return {**real(connection), "lc_collate": "xx_YY.UTF-8", "lc_ctype": "xx_YY.UTF-8", "locale_provider": "c"}

    monkeypatch.setattr(postgres, "server_facts", of_another_machine)
    with pristine(pg18, tmp_path / "pristine", PLAIN) as made, made.live(tmp_path) as live:
        monkeypatch.undo()
        (warning,) = preview(live.request(made.archive)).warnings
        assert "The backup's locale xx_YY.UTF-8 may not be available on this server" in warning
        before = live.state()
        result = restore(live.request(made.archive))
        assert live.state() == before
        assert any("uses the live database's collation" in text and "invalid LC_COLLATE" in text for text in result.warnings)
        test = RestoreTest(made.archive, live.source(), KEY, live.request(made.archive).restore_id)
        assert verify_by_restoring(test).problems == []
