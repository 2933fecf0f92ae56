"""Databases with an extension that only a superuser may create, as vector is: its types, its index, its home."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.errors import EngineError, RestoreBlocked
from app.engine.proof.restore_test import RestoreTest, verify_by_restoring
from app.engine.restore.preview.preview import preview
from app.engine.restore.restore import restore
from tests.support.archives import KEY, backup
from tests.support.databases import fresh_source
from tests.support.restoring import Live, drop_all_like

EXTENSION = "CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions; GRANT USAGE ON SCHEMA extensions TO PUBLIC"
TABLES = b"""
CREATE TABLE parts (id int PRIMARY KEY, place extensions.vector(3), name text);
INSERT INTO parts SELECT n, format('[%s,%s,1.5]', n, n % 7)::extensions.vector, 'part ' || n FROM generate_series(1, 2000) n;
CREATE INDEX near ON parts USING hnsw (place extensions.vector_l2_ops);
ANALYZE;
"""


@pytest.fixture(params=["pg16", "pg18"])
def live(request: pytest.FixtureRequest, documents_dir: Path, tmp_path: Path) -> Iterator[Live]:
    """A live database with the extension, which a superuser made, and a table of the app's role that uses it."""
    server: EmbeddedPostgres = request.getfixturevalue(request.param)
    with fresh_source(server) as source:
        with psycopg.connect(source.admin_url, autocommit=True) as connection:
            connection.execute(EXTENSION.encode())
        with psycopg.connect(source.url, autocommit=True) as connection:
            connection.execute(TABLES)
        try:
            yield Live(server, source.name, source.user, source.url, source.admin_url, documents_dir, tmp_path / ".restores")
        finally:
            drop_all_like(server, source.name)


@pytest.fixture
def archive(live: Live, storage_dir: Path) -> Path:
    return backup(live.url, live.documents, storage_dir).path


def change(live: Live) -> None:
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute("DELETE FROM parts WHERE id > 3; DROP INDEX near")


def nearest(live: Live) -> list[tuple[int]]:
    """Return what the index finds."""
    with psycopg.connect(live.url) as connection:
        connection.execute("SET enable_seqscan = off; SET search_path = public, extensions")
        return connection.execute("SELECT id FROM parts ORDER BY place <-> '[1000,6,1.5]' LIMIT 3").fetchall()


def test_a_superuser_restores_it_beside_the_live_database(live: Live, archive: Path) -> None:
    before, found = live.state(), nearest(live)
    change(live)
    result = restore(live.request(archive, live.admin_url))
    assert (result.strategy, result.warnings) == ("swap", [])
    assert live.state() == before
    assert nearest(live) == found


def test_another_role_restores_it_inside_the_live_database(live: Live, archive: Path) -> None:
    before, found = live.state(), nearest(live)
    change(live)
    looked = preview(live.request(archive))
    assert (looked.strategy, looked.blockers) == ("in_place", [])
    (warning,) = looked.warnings
    assert "the extension vector, which only a superuser may create" in warning
    result = restore(live.request(archive))
    assert result.strategy == "in_place"
    assert live.state() == before
    assert nearest(live) == found


def test_another_role_can_not_where_the_live_database_lacks_it(live: Live, archive: Path) -> None:
    with psycopg.connect(live.admin_url, autocommit=True) as connection:
        connection.execute("DROP EXTENSION vector CASCADE")
    before = live.state()
    with pytest.raises(RestoreBlocked, match="the extension vector, which only a superuser may create"):
        restore(live.request(archive))
    assert live.state() == before


def test_a_test_restore_needs_a_superuser_and_says_so(live: Live, archive: Path) -> None:
    assert verify_by_restoring(RestoreTest(archive, live.source(live.admin_url), KEY, uuid4())).problems == []
    with pytest.raises(EngineError, match="the extension vector, which only a superuser may create"):
        verify_by_restoring(RestoreTest(archive, live.source(), KEY, uuid4()))
