"""The power fails for the worker and the database server at once: afterwards all is the old state or all is the new one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.engine.archives import KEY
from tests.engine.test_restore_killed import SCRIPT, change, check_whole
from tests.support.powercut import Machine, needs_loop_devices
from tests.support.restoring import Live, Pristine, State, pristine
from tests.support.restoring_child import POINTS, child

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
        with pristine(machine.server, place, SCRIPT) as small:
            (place / "live").mkdir()
            with small.live(place / "live") as live:
                new = live.state()
                change(live)
                machine.disk.sync()
                yield Scene(machine, small, live, live.state(), new)


def pictures(scene: Scene, action: str, restore_id: UUID, points: list[str]) -> dict[str, Path]:
    """Have a process restore, undo or discard; return what a power cut at each of these points would leave."""
    live, found = scene.live, {}
    order = (
        action,
        live.url,
        live.documents,
        live.state_dir,
        restore_id,
        scene.small.archive,
        KEY,
        ",".join(points),
        "wait",
    )
    with child(*order) as process:
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
