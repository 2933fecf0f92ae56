"""Five containers on one database and one Valkey: every slot once, whatever is killed or flushed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from apiflask import APIFlask
from sqlalchemy import func, select

from app.engine.storage.local import LocalStorage
from app.extensions import db
from app.models import BackupHistory, BackupSlot
from app.runs import queue
from tests.support.application import ROOT, Processes
from tests.support.scheduling import MINUTE, all_slots, schedule

CONTAINERS = 5
BEGIN = datetime(2026, 1, 1, 0, 0, tzinfo=UTC)
Container = subprocess.Popen[bytes]


class Conductor:
    """Starts and kills containers, and turns the clock."""

    def __init__(self, processes: Processes, clock: Path, metadata_url: str) -> None:
        self._environment = processes.environment
        self._clock = clock
        self.turn(BEGIN)
        self._database = psycopg.connect(metadata_url, autocommit=True)
        self.containers: list[Container] = []

    def turn(self, now: datetime) -> None:
        """Set the clock."""
        self.now = now
        spare = self._clock.with_suffix(".new")
        spare.write_text(now.isoformat())
        spare.rename(self._clock)

    def start(self, count: int = 1) -> None:
        """Start containers."""
        command = [sys.executable, "-m", "tests.support.container", str(self._clock)]
        for _ in range(count):
            self.containers.append(subprocess.Popen(command, cwd=ROOT, env=self._environment, start_new_session=True))

    def kill_one(self, chance: random.Random) -> None:
        """Kill a container, as kill -9 does, and start another."""
        victim = self.containers.pop(chance.randrange(len(self.containers)))
        victim.kill()
        victim.wait()
        self.start()

    def is_filled(self, slot: datetime) -> bool:
        """Return whether a slot has its backup."""
        query = "SELECT count(*) FROM backup_slots WHERE scheduled_for = %s AND status = 'completed'"
        return self._database.execute(query, [slot]).fetchone() == (1,)

    def wait(self, slot: datetime, seconds: float) -> bool:
        """Wait for a slot to be filled; return whether it was."""
        until = time.monotonic() + seconds
        while not self.is_filled(slot):
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True

    def stop(self) -> None:
        """End everything."""
        for container in self.containers:
            container.kill()
            container.wait()
        self._database.close()


@pytest.fixture
def conductor(app: APIFlask, processes: Processes, tmp_path: Path, metadata_url: str) -> Iterator[Conductor]:
    """Five containers that run."""
    found = Conductor(processes, tmp_path / "clock", metadata_url)
    found.start(CONTAINERS)
    yield found
    found.stop()


def run_slots(conductor: Conductor, count: int, between: Callable[[int], None] = lambda _: None) -> int:
    """Let that many hours pass, each with something that happens just after the hour; return the most simulated minutes
    that a slot had to wait for its backup."""
    longest = 0
    for number in range(1, count + 1):
        slot = BEGIN + number * timedelta(hours=1)
        conductor.turn(slot)
        between(number)
        minutes = 0
        while not conductor.wait(slot, 15 if minutes else 8):  # long enough for a machine that is busy with something else
            minutes += 1
            assert minutes < 50, f"the slot of {slot} was lost"
            conductor.turn(slot + minutes * MINUTE)
        longest = max(longest, minutes)
    return longest


def check_one_run_per_slot(app: APIFlask, count: int, storage_dir: Path) -> None:
    """Check that there are that many slots, each with a backup of its own, and nothing beside."""
    found = all_slots()
    assert [slot.scheduled_for for slot in found] == [BEGIN + number * timedelta(hours=1) for number in range(1, count + 1)]
    assert {slot.status for slot in found} == {"completed"}
    assert len({slot.backup_id for slot in found}) == count
    assert db.session.scalar(select(func.count()).select_from(BackupHistory)) == count
    assert len(LocalStorage(storage_dir).archives()) == count


def test_five_containers_fill_each_slot_once(app: APIFlask, conductor: Conductor, storage_dir: Path) -> None:
    schedule("hourly", BEGIN)
    assert run_slots(conductor, 20) <= 1
    check_one_run_per_slot(app, 20, storage_dir)
    assert db.session.scalar(select(func.max(BackupSlot.attempts))) == 1
    assert db.session.scalar(select(func.max(BackupHistory.attempt))) == 1


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_a_thousand_slots_with_a_flushed_redis_in_the_middle(app: APIFlask, conductor: Conductor, storage_dir: Path) -> None:
    def flush(number: int) -> None:
        if number in (333, 666):
            queue.connection().flushdb()

    schedule("hourly", BEGIN)
    assert run_slots(conductor, 1000, flush) < 5
    check_one_run_per_slot(app, 1000, storage_dir)
    assert db.session.scalar(select(func.max(BackupSlot.attempts))) == 1


@pytest.mark.heavy
@pytest.mark.timeout(3600)
def test_containers_killed_around_their_ticks_lose_and_double_nothing(
    app: APIFlask, conductor: Conductor, storage_dir: Path
) -> None:
    chance = random.Random(4)

    def kill(_: int) -> None:
        time.sleep(chance.uniform(0, 0.15))
        conductor.kill_one(chance)

    schedule("hourly", BEGIN)
    run_slots(conductor, 60, kill)
    check_one_run_per_slot(app, 60, storage_dir)
