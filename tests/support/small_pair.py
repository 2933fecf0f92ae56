"""A small live pair for tests of restores that fail, are killed or lose their server, and the check that it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.restore.places.journal import KEPT
from app.engine.restore.places.journal import all_in as list_journals
from app.engine.restore.recovery import recover
from tests.support.databases import psql
from tests.support.restoring import Live, Pristine, State, change_documents, pristine

SMALL_SCHEMA = b"""
CREATE TABLE vehicles (id integer PRIMARY KEY, name text NOT NULL);
INSERT INTO vehicles SELECT n, 'vehicle ' || n FROM generate_series(1, 2000) n;
CREATE INDEX ON vehicles (name);
CREATE TABLE version (n integer);
INSERT INTO version VALUES (1);
SELECT lo_from_bytea(70001, 'large');
"""


@pytest.fixture(scope="session")
def small(pg18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pristine]:
    """A small database on PostgreSQL 18, its documents and an archive of both; no test changes them."""
    with pristine(pg18, tmp_path_factory.mktemp("pristine"), SMALL_SCHEMA) as made:
        yield made


@pytest.fixture
def live(small: Pristine, tmp_path: Path) -> Iterator[Live]:
    """A live pair like it, for one test."""
    with small.live(tmp_path) as live:
        yield live


def change(live: Live) -> None:
    """Change the database and the documents of a small live pair, so that its archive's state is another one."""
    durable = "SET synchronous_commit = on; "
    changes = "UPDATE version SET n = 2; DROP INDEX vehicles_name_idx; DELETE FROM vehicles"
    psql(live.server.bin_dir, live.url, durable + changes)
    change_documents(live.documents)


def check_whole(live: Live, old: State, new: State, restore_id: object) -> str:
    """Recover, check that the live pair is wholly one of both states and nothing is left over; return "old" or "new"."""
    recovered = recover(live.state_dir, live.source())
    state = live.state()
    assert state in (old, new), (
        f"a mixture: the database is {'new' if state.dump == new.dump else 'old'}, "
        f"the documents are {'new' if state.documents == new.documents else 'old'}; {recovered}"
    )
    outcome = "new" if state == new else "old"
    journals = list_journals(live.state_dir)
    assert all(journal.step == KEPT for journal in journals)
    assert live.remains() == (live.kept(journals[0].restore_id) if journals else [])
    if recovered:
        assert [(entry.restore_id, entry.outcome) for entry in recovered] == [
            (restore_id, "completed" if outcome == "new" else "undone")
        ]
    assert recover(live.state_dir, live.source()) == []
    return outcome
