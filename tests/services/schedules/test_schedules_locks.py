"""The schedules' Redis locks: kept while a backup runs, taken again when lost, given up when another has them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from apiflask import APIFlask
from redis import Redis

from app.demo.servers import EmbeddedValkey
from app.engine.storage.local import LocalStorage
from app.runs import locks, queue
from app.runs.schedule_locks import ScheduleLockLost, ScheduleLocks, name_of
from app.services.backups import backups
from app.services.recovery import backup_recovery
from app.services.schedules import schedules
from tests.support.application import ROOT, Processes, finished, make_sparse, unreachable_redis, wait_for
from tests.support.scheduling import MINUTE, all_slots, schedule

TTL = 2.0
BEGIN = datetime(2026, 2, 1, 3, 0, tzinfo=UTC)
Worker = subprocess.Popen[bytes]


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """A client of its own."""
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def held(redis: Redis) -> Iterator[tuple[uuid.UUID, ScheduleLocks]]:
    """A schedule's lock that is held, and runs out after a second unless it is renewed."""
    schedule_id, keeper = uuid.uuid4(), ScheduleLocks(redis, 1.0)
    assert keeper.take([schedule_id])
    yield schedule_id, keeper
    keeper.release()
    assert redis.get(name_of(schedule_id)) in (None, b"another")


def test_a_lock_outlives_its_ttl_while_its_holder_works(redis: Redis, held: tuple[uuid.UUID, ScheduleLocks]) -> None:
    schedule_id, keeper = held
    assert 0 < redis.pttl(name_of(schedule_id)) <= 1000
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        assert not ScheduleLocks(redis, 1.0).take([schedule_id])
        keeper.check()
        time.sleep(0.2)


def test_of_several_schedules_all_locks_are_taken_or_none(redis: Redis, held: tuple[uuid.UUID, ScheduleLocks]) -> None:
    other, second = uuid.uuid4(), ScheduleLocks(redis, 1.0)
    assert not second.take([other, held[0]])
    assert redis.get(name_of(other)) is None


def test_a_flushed_lock_is_taken_again(redis: Redis, held: tuple[uuid.UUID, ScheduleLocks]) -> None:
    schedule_id, keeper = held
    redis.flushdb()
    wait_for_lock(redis, schedule_id)
    keeper.ensure()


def test_a_lock_that_another_took_is_lost_for_good(redis: Redis, held: tuple[uuid.UUID, ScheduleLocks]) -> None:
    schedule_id, keeper = held
    redis.set(name_of(schedule_id), "another", px=60_000)
    with pytest.raises(ScheduleLockLost, match="publishes nothing"):
        keeper.ensure()
    redis.delete(name_of(schedule_id))
    with pytest.raises(ScheduleLockLost):
        keeper.ensure()
    redis.set(name_of(schedule_id), "another", px=1000)


def test_a_crash_frees_the_lock_by_itself(redis: Redis) -> None:
    schedule_id = uuid.uuid4()
    redis.set(name_of(schedule_id), "a dead container", px=500)
    assert not ScheduleLocks(redis, 1.0).take([schedule_id])
    time.sleep(0.6)
    keeper = ScheduleLocks(redis, 1.0)
    assert keeper.take([schedule_id])
    keeper.release()


def test_a_lock_that_a_lost_run_left_does_not_stop_the_next_run_of_the_same_backup(redis: Redis) -> None:
    schedule_id, backup_id = uuid.uuid4(), uuid.uuid4()
    lost = ScheduleLocks(redis, 60.0, backup_id)
    assert lost.take([schedule_id])
    assert not ScheduleLocks(redis, 60.0, uuid.uuid4()).take([schedule_id])
    again = ScheduleLocks(redis, 60.0, backup_id)
    assert again.take([schedule_id])
    assert 0 < redis.pttl(name_of(schedule_id)) <= 60_000
    with pytest.raises(ScheduleLockLost):
        lost.ensure()
    lost.release()
    again.ensure()
    again.release()
    assert redis.get(name_of(schedule_id)) is None


def test_a_restarted_redis_costs_nothing(tmp_path: Path) -> None:
    schedule_id = uuid.uuid4()
    with EmbeddedValkey(tmp_path / "valkey") as server:
        client = Redis.from_url(server.url(0), socket_timeout=1)
        keeper = ScheduleLocks(client, 1.0)
        assert keeper.take([schedule_id])
        server.stop()
        time.sleep(1.5)
        keeper.ensure()
        server.start()
        wait_for_lock(client, schedule_id)
        keeper.ensure()
        keeper.release()
        client.close()


def test_without_redis_the_run_goes_on(redis: Redis) -> None:
    keeper = ScheduleLocks(unreachable_redis(), 1.0)
    assert keeper.take([uuid.uuid4()])
    keeper.ensure()
    keeper.release()


def wait_for_lock(redis: Redis, schedule_id: uuid.UUID) -> None:
    """Wait until the lock is held."""
    until = time.monotonic() + 5
    while not redis.exists(name_of(schedule_id)):
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.fixture
def start_worker(processes: Processes) -> Iterator[object]:
    """A function that starts a worker whose schedule locks run out after two seconds."""
    started: list[Worker] = []

    def start() -> Worker:
        command = [sys.executable, "-m", "tests.support.short_times", "worker", "--queue", "backups"]
        environment = {**processes.environment, "LOCK_TTL": str(TTL)}
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            for member in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
                member.kill()
            process.wait(10)


def under_way(documents_dir: Path, size_bytes: int) -> tuple[uuid.UUID, uuid.UUID]:
    """Have a scheduled backup made of a file that takes a while; return its id and its schedule's, once it is at it."""
    make_sparse(documents_dir / "large", size_bytes)
    row = schedule("daily", BEGIN - timedelta(hours=1))
    schedules.due(BEGIN)
    (slot,) = all_slots()
    assert slot.backup_id is not None
    backup_id, schedule_id = slot.backup_id, row.id
    wait_for(lambda: backups.get(backup_id).phase == "documents")
    return backup_id, schedule_id


def test_a_backup_longer_than_the_ttl_keeps_its_lock_and_completes(
    app: APIFlask, start_worker: object, documents_dir: Path
) -> None:
    start_worker()  # type: ignore[operator]
    backup_id, schedule_id = under_way(documents_dir, 2 << 30)
    began, redis = time.monotonic(), queue.connection()
    while backups.get(backup_id).status == "in_progress":
        owned = redis.exists(name_of(schedule_id))
        assert owned or backups.get(backup_id).status == "completed"
        backups.rest()
        time.sleep(0.05)
    assert time.monotonic() - began > TTL
    assert finished(backups.get(backup_id)).status == "completed"
    wait_for(lambda: not redis.exists(name_of(schedule_id)))
    wait_for(lambda: all_slots()[0].status == "completed")


def test_a_redis_that_is_flushed_meanwhile_costs_nothing(app: APIFlask, start_worker: object, documents_dir: Path) -> None:
    start_worker()  # type: ignore[operator]
    backup_id, schedule_id = under_way(documents_dir, 2 << 30)
    queue.connection().flushdb()
    wait_for_lock(queue.connection(), schedule_id)
    assert finished(backups.get(backup_id), 120).status == "completed"


def test_a_stopped_holder_whose_backup_another_made_publishes_nothing(
    app: APIFlask,
    start_worker: object,
    documents_dir: Path,
    storage_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backup_recovery, "HUNG", timedelta(seconds=3))
    monkeypatch.setattr(backup_recovery, "SILENT", timedelta(seconds=2))
    first = start_worker()  # type: ignore[operator]
    backup_id, schedule_id = under_way(documents_dir, 6 << 30)
    (horse,) = psutil.Process(first.pid).children()
    family = [psutil.Process(first.pid), horse, *horse.children(recursive=True)]
    for process in family:
        process.suspend()
    (documents_dir / "large").unlink()
    wait_for(lambda: not queue.connection().exists(name_of(schedule_id)))
    wait_for(lambda: backup_recovery.reconcile() or backups.get(backup_id).status == "failed")
    schedules.due(BEGIN + MINUTE)
    schedules.due(BEGIN + 2 * MINUTE)
    assert (backups.get(backup_id).status, all_slots()[0].attempts) == ("queued", 2)
    start_worker()  # type: ignore[operator]
    row = finished(backups.get(backup_id))
    assert (row.status, row.attempt, row.error) == ("completed", 2, None)
    filename, sha256 = row.filename, row.sha256
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # what the horse had started was ended with the lost run
            process.resume()
    wait_for(lambda: not horse.is_running() or horse.status() == psutil.STATUS_ZOMBIE, 90)
    wait_for(lambda: LocalStorage(storage_dir).partials() == [])
    assert LocalStorage(storage_dir).archives() == [filename]
    row = backups.get(backup_id)
    assert (row.status, row.attempt, row.filename, row.sha256) == ("completed", 2, filename, sha256)
    assert [slot.backup_id for slot in all_slots()] == [backup_id]
    os.kill(first.pid, signal.SIGTERM)


def test_a_backup_whose_schedule_is_locked_elsewhere_waits_for_it(
    app: APIFlask, start_worker: object, documents_dir: Path
) -> None:
    row = schedule("daily", BEGIN - timedelta(hours=1))
    queue.connection().set(name_of(row.id), "another container", px=60_000)
    start_worker()  # type: ignore[operator]
    schedules.due(BEGIN)
    backup_id = all_slots()[0].backup_id
    assert backup_id is not None
    wait_for(lambda: backups.get(backup_id).phase == "waiting")
    with locks.holding(locks.WRITER) as free:
        assert free is not None
    queue.connection().delete(name_of(row.id))
    backup_recovery.enqueue_waiting()
    assert finished(backups.get(backup_id)).status == "completed"
