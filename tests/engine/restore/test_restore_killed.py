"""A restore whose process is killed: afterwards the live pair is wholly the old one or wholly the new one."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.restore.recovery import recover
from app.engine.restore.restore import restore
from app.engine.restore.swap import undo
from tests.support.databases import admin_connection
from tests.support.restoring import Live, Pristine, change_everything, pristine
from tests.support.restoring_child import POINTS, Order, child, killed_at
from tests.support.small_pair import change, check_whole

QUICK = {
    "journal.write 4 after",
    "staging_database.create 1 after",
    "journal.write 7 torn",
    "exchange._rename 2 after",
    "swap.exchange_databases 1 after",
    "journal.write 8 before",
}
every_point = [pytest.param(point, marks=() if point in QUICK else pytest.mark.heavy) for point in POINTS]


@pytest.mark.parametrize("point", every_point)
def test_killed_at_a_named_point_of_a_restore(small: Pristine, live: Live, point: str) -> None:
    new = live.state()
    change(live)
    old = live.state()

    restore_id = killed_at(point, "restore", live, small.archive)

    outcome = check_whole(live, old, new, restore_id)
    swap_wanted = point == "journal.write 7 after" or point.startswith(("exchange.", "swap.", "journal.write 8"))
    assert outcome == ("new" if swap_wanted else "old")
    if outcome == "new":
        undo(live.state_dir, restore_id, live.source())
        assert live.state() == old
    else:
        restore(live.request(small.archive))
        assert live.state() == new


UNDO_POINTS = [
    "journal.write 1 before",
    "journal.write 1 after",
    "exchange._rename 2 after",
    "swap.exchange_databases 1 after",
    "swap.exchange_folders 1 after",
    "journal.write 2 before",
]


@pytest.mark.parametrize(
    "point",
    [pytest.param(p, marks=() if p == "swap.exchange_databases 1 after" else pytest.mark.heavy) for p in UNDO_POINTS],
)
def test_killed_while_undoing(small: Pristine, live: Live, point: str) -> None:
    new = live.state()
    change(live)
    old = live.state()
    request = live.request(small.archive)
    restore(request)

    killed_at(point, "undo", live, small.archive, request.restore_id)

    recovered = recover(live.state_dir, live.source())
    assert live.state() == (new if point == "journal.write 1 before" else old)
    assert [entry.outcome for entry in recovered] == ([] if point == "journal.write 1 before" else ["undone"])
    assert live.remains() == live.kept(request.restore_id)


@pytest.mark.parametrize(
    "point", ["restore.commit_point 1 before", "restore.commit_point 1 after", "swap._committed 1 after"]
)
def test_killed_while_restoring_in_place(small: Pristine, live: Live, point: str) -> None:
    new = live.state()
    change(live)
    old = live.state()
    with admin_connection(live.server) as connection:
        connection.execute(f"ALTER ROLE {live.owner} NOCREATEDB")
    try:
        restore_id = killed_at(point, "restore", live, small.archive)
    finally:
        with admin_connection(live.server) as connection:
            connection.execute(f"ALTER ROLE {live.owner} CREATEDB")

    assert check_whole(live, old, new, restore_id) == ("new" if point.startswith("swap.") else "old")
    assert live.remains() == []


@pytest.fixture(scope="module")
def hard(pg18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pristine]:
    with pristine(pg18, tmp_path_factory.mktemp("hard")) as made:
        yield made


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_ten_random_moments(hard: Pristine, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    with hard.live(tmp_path) as live:
        new = live.state()
        began = time.monotonic()
        restore(live.request(hard.archive))
        took = time.monotonic() - began
        change_everything(live)
        old = live.state()
        for _ in range(10):
            moment = chance.uniform(0, took * 1.2)
            restore_id = uuid4()
            with child(Order("restore", live, hard.archive, restore_id)) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "begun\n"
                time.sleep(moment)
                process.kill()
                process.wait()
            recovered = recover(live.state_dir, live.source())
            state = live.state()
            assert state in (old, new), (seed, moment, recovered)
            if state == new:
                undo(live.state_dir, restore_id, live.source())
