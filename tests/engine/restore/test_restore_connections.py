"""A role that has few connections to give: a restore makes do with those that it gets."""

from __future__ import annotations

import threading
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.errors import EngineError
from app.engine.proof.restore_test import RestoreTest, verify_by_restoring
from app.engine.restore.restore import restore
from app.engine.restore.swap import undo
from app.engine.source import postgres
from tests.support.archives import KEY
from tests.support.databases import SourceDatabase, admin_connection
from tests.support.restoring import pristine
from tests.support.small_pair import SMALL_SCHEMA, change


@pytest.mark.parametrize("limit", [2, 3])
def test_a_restore_needs_two_connections(pg18: EmbeddedPostgres, tmp_path: Path, limit: int) -> None:
    (tmp_path / "live").mkdir()
    with pristine(pg18, tmp_path, SMALL_SCHEMA) as made, made.live(tmp_path / "live") as live:
        before = live.state()
        change(live)
        changed = live.state()
        with admin_connection(pg18) as admin:
            admin.execute(f"ALTER ROLE {made.owner} CONNECTION LIMIT {limit}")
        request = live.request(made.archive, threads=4)

        report = verify_by_restoring(RestoreTest(made.archive, live.source(), KEY, uuid4(), threads=4))
        restore(request)

        assert (report.problems, report.rows) == ([], 2001)
        assert live.state() == before
        undo(live.state_dir, request.restore_id, live.source())
        assert live.state() == changed


def test_with_a_single_connection_it_is_refused_and_nothing_changes(pg18: EmbeddedPostgres, tmp_path: Path) -> None:
    (tmp_path / "live").mkdir()
    with pristine(pg18, tmp_path, SMALL_SCHEMA) as made, made.live(tmp_path / "live") as live:
        before = live.state()
        with admin_connection(pg18) as admin:
            admin.execute(f"ALTER ROLE {made.owner} CONNECTION LIMIT 1")

        with pytest.raises(EngineError, match="too many connections for role"):
            restore(live.request(made.archive))

        assert live.state() == before
        assert live.remains() == []


def test_a_connection_that_is_given_back_in_a_moment_is_waited_for(
    source_db: SourceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "FREED_SECONDS", 60.0)
    with admin_connection(source_db.server) as admin:
        admin.execute(f"ALTER ROLE {source_db.user} CONNECTION LIMIT 1")
    first = psycopg.connect(source_db.url)
    ending = threading.Timer(0.3, first.close)
    ending.start()
    with postgres.connect(source_db.url, "tests") as second:
        assert second.execute("SELECT 1 AS one").fetchone() == {"one": 1}
    ending.join()
