"""The real scheduler and worker: a due slot gets its real backup, also when the scheduler is killed around its ticks."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from pathlib import Path

import pytest
from apiflask import APIFlask
from redis import Redis
from sqlalchemy import delete

from app.config import Settings
from app.engine.archive.reader import read_manifest
from app.extensions import db
from app.models import BackupHistory, BackupSlot, utcnow
from app.processes.scheduler import TickScheduler
from app.services.notifications import notices
from app.services.recovery import rescan
from app.services.schedules import schedules
from tests.support.application import TESTER, Processes, wait_for
from tests.support.scheduling import all_slots, get, schedule

ROUNDS = 12


def make_due(schedule_id: object, ago: timedelta = timedelta(seconds=1)) -> None:
    """Make a schedule due now."""
    schedules.get(schedule_id).next_run_at = utcnow() - ago  # type: ignore[arg-type]
    db.session.commit()


def make_tick(app: APIFlask) -> None:
    """Let the minute tick be due now."""
    redis: Redis = app.extensions["redis"]
    wait_for(lambda: redis.zscore(TickScheduler.scheduled_jobs_key, "tick-check") is not None)
    redis.zadd(TickScheduler.scheduled_jobs_key, {"tick-check": time.time() - 1})


def test_a_due_schedule_gets_its_backup_by_scheduler_and_worker(
    app: APIFlask, processes: Processes, settings: Settings, storage_dir: Path
) -> None:
    row = schedule("custom", cron_expression="* * * * *")
    row_id = row.id
    make_due(row_id, timedelta(minutes=3))
    processes.start("scheduler")
    processes.start("worker", "--queue", "ticks", "--queue", "backups")
    make_tick(app)
    wait_for(lambda: [slot.status for slot in all_slots()][:1] == ["completed"])
    slot = all_slots()[0]
    backup = get(slot.backup_id)  # type: ignore[arg-type]
    assert (backup.kind, backup.status, backup.schedule_id) == ("scheduled", "completed", row_id)
    wait_for(lambda: get(backup.id).categories == ["hourly", "daily", "weekly", "monthly"])
    manifest = read_manifest(storage_dir / str(backup.filename), settings.signing_key)
    assert manifest.labels["slots"] == f"{row_id}@{slot.scheduled_for.isoformat()}"
    after = schedules.get(row_id)
    assert after.last_status == "completed"
    assert after.next_run_at is not None
    assert after.next_run_at > slot.scheduled_for


def test_a_rescan_finds_the_slots_again(app: APIFlask, processes: Processes) -> None:
    found = [schedule("daily"), schedule("hourly")]
    for row in found:
        row.next_run_at = utcnow() - timedelta(minutes=3)
        row.cron_expression, row.frequency = "* * * * *", "custom"
    db.session.commit()
    schedules.due()
    processes.start("worker", "--queue", "backups")
    wait_for(lambda: [slot.status for slot in all_slots()] == ["completed"] * 2)
    before = {(slot.schedule_id, slot.scheduled_for, slot.backup_id) for slot in all_slots()}
    db.session.execute(delete(BackupSlot))
    db.session.execute(delete(BackupHistory))
    db.session.commit()
    assert len(rescan.rescan(TESTER).of("added")) == 1
    assert {(slot.schedule_id, slot.scheduled_for, slot.backup_id) for slot in all_slots()} == before
    notices.announce()
    assert get(all_slots()[0].backup_id).pinned  # type: ignore[arg-type]


@pytest.mark.heavy
@pytest.mark.timeout(1200)
def test_a_scheduler_killed_around_its_ticks_loses_and_doubles_nothing(
    app: APIFlask, processes: Processes, storage_dir: Path
) -> None:
    chance = random.Random(7)
    row_id = schedule("custom", cron_expression="0 3 * * *", keep_hourly=100).id
    processes.start("worker", "--queue", "ticks", "--queue", "backups")
    scheduler = processes.start("scheduler")
    for number in range(1, ROUNDS + 1):
        # As if time had passed: each round another minute of the past hour is due.
        due_at = utcnow().replace(second=0, microsecond=0) - timedelta(minutes=45 - number)
        row = schedules.get(row_id)
        row.cron_expression, row.next_run_at = f"{due_at.minute} {due_at.hour} * * *", due_at
        db.session.commit()
        make_tick(app)
        time.sleep(chance.uniform(0, 6))
        scheduler.kill()
        scheduler.wait()
        scheduler = processes.start("scheduler")
        make_tick(app)
        wait_for(lambda number=number: [slot.status for slot in all_slots()] == ["completed"] * number, 90)
    found = all_slots()
    assert len(found) == ROUNDS == len({slot.scheduled_for for slot in found})
    assert len({slot.backup_id for slot in found}) == ROUNDS
    assert {slot.attempts for slot in found} == {1}
