"""Helpers of the tests of schedules: simulated time, and backups that stand in for real ones where only slots matter."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from flask import current_app
from sqlalchemy import select, update

from app.extensions import db
from app.models import BackupHistory, BackupSchedule, BackupSlot
from app.runs import ledger
from app.services.audit.actor import Actor
from app.services.backups import backups
from app.services.inputs import ScheduleInput
from app.services.retention import cleanup
from app.services.schedules import due_slots, schedules
from tests.support.application import TESTER

MINUTE = timedelta(minutes=1)


def schedule(frequency: str = "hourly", now: datetime | None = None, **values: Any) -> BackupSchedule:
    """Return a schedule created at `now`."""
    return schedules.create(TESTER, ScheduleInput(name=values.pop("name", frequency), frequency=frequency, **values), now)  # type: ignore[arg-type]


def make_schedule(name: str = "Nightly", **values: object) -> BackupSchedule:
    """Make a schedule from form values: daily at 03:00 UTC unless they say something else."""
    return schedules.create(TESTER, ScheduleInput.model_validate({"name": name, "frequency": "daily"} | values))


def fill_slot(schedule: BackupSchedule, backup: BackupHistory, status: str = "completed") -> None:
    """Make a backup the one of a schedule's last slot."""
    moment = backup.created_at
    db.session.add(BackupSlot(schedule_id=schedule.id, scheduled_for=moment, status=status, backup_id=backup.id))
    schedule.last_run_at, schedule.last_status = moment, status
    db.session.commit()


def four_schedules(now: datetime) -> list[BackupSchedule]:
    """Return the four default schedules, side by side."""
    return [schedule(frequency, now) for frequency in ("hourly", "daily", "weekly", "monthly")]


def all_slots() -> list[BackupSlot]:
    """Return every slot as the database has it, in order of its time."""
    db.session.rollback()
    chosen = select(BackupSlot).order_by(BackupSlot.scheduled_for, BackupSlot.created_at)
    return list(db.session.scalars(chosen.execution_options(populate_existing=True)))


def queued() -> list[UUID]:
    """Return the backups that wait for a worker."""
    db.session.rollback()
    waiting = select(BackupHistory.id).where(BackupHistory.status == "queued").order_by(BackupHistory.created_at)
    return list(db.session.scalars(waiting))


def stand_in(backup_id: UUID, at: datetime, status: str = "completed") -> bool:
    """End a queued backup at a simulated time as a worker would. Return whether it was queued."""
    attempt = ledger.backups.claim(backup_id, "stand-in")
    if attempt is None:
        return False
    storage: Path = current_app.config["SETTINGS"].storage_dir
    with db.engine.begin() as connection:
        # A run killed right after publication is completed by its archive; an empty one can't be known again but by name.
        first = connection.scalar(select(BackupHistory.created_at).where(BackupHistory.id == backup_id))
        filename = f"motovaultpro_backup_{first if attempt > 1 else at:%Y%m%d_%H%M%S}.tar.gz"
        moved = {"created_at": at, "started_at": at}
        connection.execute(update(BackupHistory).where(BackupHistory.id == backup_id).values(**moved))
    if status == "failed":
        assert ledger.backups.fail(backup_id, attempt, "The source was down.")
    else:
        (storage / filename).write_bytes(bytes(1000))
        figures = {"filename": filename, "size_bytes": 1000, "sha256": "ab" * 32, "finished_at": at, "verified_at": at}
        assert ledger.backups.complete(backup_id, attempt, **figures)
    return True


def tick(now: datetime, status: str | None = "completed") -> list[UUID]:
    """Do what is due at a simulated moment, and end every backup that it queued, as `status` (None: leave it queued).
    Return those backups."""
    schedules.due(now)
    made = queued()
    if status is not None:
        for backup_id in made:
            stand_in(backup_id, now, status)
        due_slots.settle(now)
    return made


def live_through(begin: datetime, end: datetime, step: timedelta) -> None:
    """Tick from begin to end, with the cleanup that follows each scheduled success."""
    now = begin
    while now <= end:
        if tick(now):
            cleanup.cleanup(Actor.system("cleanup after backup"), now)
        now += step


def kept() -> list[BackupHistory]:
    """Return the completed backups, oldest first."""
    db.session.rollback()
    done = select(BackupHistory).where(BackupHistory.status == "completed").order_by(BackupHistory.started_at)
    return list(db.session.scalars(done.execution_options(populate_existing=True)))


def get(backup_id: UUID) -> BackupHistory:
    """Return a backup as the database has it now."""
    db.session.rollback()
    return backups.get(backup_id)
