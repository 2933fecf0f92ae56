"""The power fails for the worker and the database server at once: afterwards all is the old state or all is the new one."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from app.engine.restore.recovery import recover
from app.engine.restore.restore import restore
from app.engine.restore.swap import discard
from app.engine.storage.local import LocalStorage
from app.engine.verify.verify import verify_archive
from tests.support.archives import KEY
from tests.support.powercut import Machine, needs_loop_devices
from tests.support.restoring import Live, Pristine, State, pristine
from tests.support.restoring_child import POINTS, Order, child
from tests.support.small_pair import SMALL_SCHEMA, change, check_whole

pytestmark = [needs_loop_devices(), pytest.mark.timeout(900)]

# Waiting before and after each step; what is torn leaves a file that was not renamed, as "before" does.
EVERY_POINT = [point for point in POINTS if not point.endswith("torn")]
SWAP_POINTS = EVERY_POINT[EVERY_POINT.index("journal.write 6 after") : EVERY_POINT.index("journal.write 8 after") + 1] + [
    point for point in EVERY_POINT if point.startswith(("exchange.", "swap."))
]


@dataclass(frozen=True)
class Scene:
    """A live pair on a machine that loses its power, an archive of its new state, and both states."""

    machine: Machine
    small: Pristine
    live: Live
    old: State
    new: State


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("machine")
    folder.chmod(0o755)
    with Machine(folder) as machine:
        place = machine.disk.place / "apps"
        place.mkdir()
        with pristine(machine.server, place, SMALL_SCHEMA) as small:
            (place / "live").mkdir()
            with small.live(place / "live") as live:
                new = live.state()
                change(live)
                machine.disk.sync()
                yield Scene(machine, small, live, live.state(), new)


def pictures(scene: Scene, action: str, restore_id: UUID, points: list[str]) -> dict[str, Path]:
    """Have a process restore, undo or discard; return what a power cut at each of these points would leave."""
    live, found = scene.live, {}
    order = Order(action, live, scene.small.archive, restore_id, ",".join(points), "wait")
    with child(order) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("reached "):
                found[line.removeprefix("reached ").strip()] = scene.machine.picture(process.pid)
                process.stdin.write("\n")
                process.stdin.flush()
        assert line == "done\n", line
    return found


def test_the_power_fails_at_each_step_of_the_swap(scene: Scene) -> None:
    before = scene.machine.picture()
    restore_id = uuid4()
    taken = pictures(scene, "restore", restore_id, SWAP_POINTS)
    assert taken.keys() == set(SWAP_POINTS)

    outcomes = {}
    for point, picture in taken.items():
        scene.machine.power_cut(picture)
        outcomes[point] = check_whole(scene.live, scene.old, scene.new, restore_id)

    assert outcomes["journal.write 6 after"] == "old"
    assert outcomes["journal.write 7 after"] == outcomes["journal.write 8 after"] == "new"
    scene.machine.power_cut(before)


@pytest.mark.heavy
def test_the_power_fails_at_each_step_before_the_swap(scene: Scene) -> None:
    before = scene.machine.picture()
    restore_id = uuid4()
    earlier = [point for point in EVERY_POINT if point not in SWAP_POINTS]

    for picture in pictures(scene, "restore", restore_id, earlier).values():
        scene.machine.power_cut(picture)
        assert check_whole(scene.live, scene.old, scene.new, restore_id) == "old"
    scene.machine.power_cut(before)


UNDO_POINTS = [
    "journal.write 1 before",
    "journal.write 1 after",
    *(f"exchange._rename {number} after" for number in range(1, 4)),
    "swap.exchange_databases 1 after",
    "swap.exchange_folders 1 after",
    "journal.write 2 before",
    "journal.write 2 after",
]
DISCARD_POINTS = ["swap._drop_database 1 before", "swap._drop_database 1 after", "swap._remove_folder 1 after"]


@pytest.mark.heavy
def test_the_power_fails_at_each_step_of_an_undo_and_of_a_discard(scene: Scene) -> None:
    before, live = scene.machine.picture(), scene.live
    request = live.request(scene.small.archive)
    restore(request)
    restored = scene.machine.picture()

    for point, picture in pictures(scene, "undo", request.restore_id, UNDO_POINTS).items():
        scene.machine.power_cut(picture)
        recovered = recover(live.state_dir, live.source())
        assert live.state() == (scene.new if point == "journal.write 1 before" else scene.old), point
        assert all(entry.outcome == "undone" for entry in recovered)
        assert live.remains() == live.kept(request.restore_id)

    scene.machine.power_cut(restored)
    for point, picture in pictures(scene, "discard", request.restore_id, DISCARD_POINTS).items():
        scene.machine.power_cut(picture)
        assert recover(live.state_dir, live.source()) == []
        assert live.state() == scene.new, point
        discard(live.state_dir, request.restore_id, live.source())
        assert live.remains() == []
    scene.machine.power_cut(before)


PUBLISH_POINTS = [
    "local.publish 1 before",
    "local._rename_without_replacing 1 after",
    "local.sync_folder 1 before",
    "local.sync_folder 1 after",
    "local.publish 1 after",
]


@pytest.mark.heavy
def test_the_power_fails_while_an_archive_is_published(scene: Scene) -> None:
    before, storage = scene.machine.picture(), scene.small.archive.parent
    backup_id = uuid4()

    for point, picture in pictures(scene, "backup", backup_id, PUBLISH_POINTS).items():
        scene.machine.power_cut(picture)
        published = [path for path in map(storage.joinpath, LocalStorage(storage).archives()) if path != scene.small.archive]
        assert len(published) <= 1
        assert len(published) == 1 or point not in ("local.sync_folder 1 after", "local.publish 1 after")
        for path in published:
            report = verify_archive(path, KEY)
            assert report.ok
            assert report.signed
            assert report.manifest is not None
            assert report.manifest.backup_id == backup_id
        assert [partial.backup_id for partial in LocalStorage(storage).partials()] in ([], [backup_id])
    scene.machine.power_cut(before)


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_two_hundred_power_cuts_in_the_swap_and_just_before(scene: Scene) -> None:
    chance, outcomes = random.Random(12), Counter[str]()
    before = scene.machine.picture()
    while outcomes.total() < 200:
        scene.machine.power_cut(scene.machine.disk.duplicate(before))
        restore_id = uuid4()
        for picture in at_random_times(scene, restore_id, chance):
            scene.machine.power_cut(picture)
            outcomes[check_whole(scene.live, scene.old, scene.new, restore_id)] += 1
    scene.machine.power_cut(before)
    assert min(outcomes["old"], outcomes["new"]) >= 20, outcomes


def at_random_times(scene: Scene, restore_id: UUID, chance: random.Random) -> list[Path]:
    """Have a process restore; return what power cuts at random moments from the end of the load on would leave: each a few
    milliseconds after one step, before or after the next."""
    live, archive, taken = scene.live, scene.small.archive, []
    points = ",".join(["staging_database.apply_settings 1 after", *SWAP_POINTS])
    with child(Order("restore", live, archive, restore_id, points, "wait")) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = ""
        for line in process.stdout:
            if line.startswith("reached "):
                process.stdin.write("\n")
                process.stdin.flush()
                time.sleep(chance.uniform(0, 0.008))
                taken.append(scene.machine.picture(process.pid))
        assert line == "done\n", line
    return taken
