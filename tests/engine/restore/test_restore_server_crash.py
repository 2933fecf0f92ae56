"""A restore whose PostgreSQL server is killed: afterwards the live pair is wholly the old one or wholly the new one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.errors import RestoreError
from app.engine.restore.recovery import recover
from app.engine.restore.restore import restore
from app.engine.restore.swap import undo
from tests.support.databases import admin_connection
from tests.support.restoring import Live, Pristine, pristine
from tests.support.restoring_child import POINTS, Order, child
from tests.support.small_pair import SMALL_SCHEMA, change, check_whole

QUICK = {"staging_database.create 1 after", "exchange._rename 2 after", "swap.exchange_databases 1 after"}
SERVER_POINTS = [point for point in POINTS if "torn" not in point]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A server of our own, to be killed. Its commits are not waited for, as some people configure theirs."""
    folder = tmp_path_factory.mktemp("crashing")
    with EmbeddedPostgres(18, folder / "data", durable=False) as server:
        yield server


@pytest.fixture(scope="module")
def small(server: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pristine]:
    with pristine(server, tmp_path_factory.mktemp("pristine"), SMALL_SCHEMA) as made:
        yield made


@pytest.fixture
def live(small: Pristine, tmp_path: Path) -> Iterator[Live]:
    with small.live(tmp_path) as live:
        yield live


@pytest.mark.parametrize(
    "point", [pytest.param(point, marks=() if point in QUICK else pytest.mark.heavy) for point in SERVER_POINTS]
)
def test_the_server_is_killed_at_a_named_point(server: EmbeddedPostgres, small: Pristine, live: Live, point: str) -> None:
    new = live.state()
    change(live)
    old, restore_id = live.state(), uuid4()

    with child(Order("restore", live, small.archive, restore_id, point, "wait")) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        lines = [process.stdout.readline().strip() for _ in range(2)]
        assert lines[-1] == f"reached {point}"
        server.crash()
        process.stdin.write("\n")
        process.stdin.flush()
        last = process.stdout.read().splitlines()[-1]
        process.wait(timeout=60)
        server.start()

    outcome = check_whole(live, old, new, restore_id)
    assert last == "done" or last.startswith("failed: ")
    if last == "done":
        assert outcome == "new"
    if outcome == "new":
        undo(live.state_dir, restore_id, live.source())
        assert live.state() == old


def test_a_server_that_is_away_leaves_the_journal_until_it_is_back(
    server: EmbeddedPostgres, small: Pristine, live: Live
) -> None:
    new = live.state()
    change(live)
    old = live.state()
    request = live.request(small.archive)

    with pytest.raises(RestoreError, match=r"server failed|can't be opened|does not answer"):
        restore(request, before_swap=server.crash)
    with pytest.raises(RestoreError, match="could not be ended"):
        recover(live.state_dir, live.source())
    server.start()

    assert check_whole(live, old, new, request.restore_id) == "old"


@pytest.mark.parametrize("point", ["restore.commit_point 1 before", "restore.commit_point 1 after"])
def test_the_server_is_killed_around_the_commit_in_place(
    server: EmbeddedPostgres, small: Pristine, live: Live, point: str
) -> None:
    new = live.state()
    change(live)
    old, restore_id = live.state(), uuid4()
    small_owner(server, live, "NOCREATEDB")

    with child(Order("restore", live, small.archive, restore_id, point, "wait")) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert [process.stdout.readline().strip() for _ in range(2)][-1] == f"reached {point}"
        server.crash()
        process.stdin.write("\n")
        process.stdin.flush()
        assert "failed: " in process.stdout.read()
        process.wait(timeout=60)
        server.start()

    assert check_whole(live, old, new, restore_id) == "old"
    small_owner(server, live, "CREATEDB")


def small_owner(server: EmbeddedPostgres, live: Live, right: str) -> None:
    with admin_connection(server) as connection:
        connection.execute(f"ALTER ROLE {live.owner} {right}")
