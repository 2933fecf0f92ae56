"""Which backups filled which schedules' slots, for display."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select, tuple_

from app.extensions import db
from app.models import BackupHistory, BackupSchedule, BackupSlot


@dataclass(frozen=True)
class Filled:
    """A schedule that a backup was made for. `scheduled_for` None: it was run manually, for no slot."""

    schedule: BackupSchedule
    scheduled_for: datetime | None


def filled_by(backup: BackupHistory) -> list[Filled]:
    """Return the schedules, including deleted ones, that a backup was made for; those whose slots it fills come first."""
    slots = select(BackupSchedule, BackupSlot.scheduled_for).join(BackupSlot, BackupSlot.schedule_id == BackupSchedule.id)
    chosen = slots.where(BackupSlot.backup_id == backup.id).order_by(BackupSchedule.created_at, BackupSchedule.id)
    found = [Filled(schedule, moment) for schedule, moment in db.session.execute(chosen)]
    if backup.schedule_id and backup.schedule_id not in {entry.schedule.id for entry in found}:
        schedule = db.session.get(BackupSchedule, backup.schedule_id)
        found += [Filled(schedule, backup.scheduled_for)] if schedule is not None else []
    return found


def names_of_schedules(backups: Iterable[BackupHistory]) -> dict[UUID, list[str]]:
    """Return, by backup, the names of the schedules, including deleted ones, that it was made for, in order."""
    own = {backup.id: backup.schedule_id for backup in backups}
    slots = select(BackupSlot.backup_id, BackupSlot.schedule_id).where(BackupSlot.backup_id.in_(list(own)))
    pairs = {(backup_id, schedule_id) for backup_id, schedule_id in db.session.execute(slots) if backup_id is not None}
    pairs |= {(backup_id, schedule_id) for backup_id, schedule_id in own.items() if schedule_id is not None}
    if not pairs:
        return {}
    wanted = select(BackupSchedule.id, BackupSchedule.name).where(BackupSchedule.id.in_({pair[1] for pair in pairs}))
    names = {row.id: row.name for row in db.session.execute(wanted)}
    found: dict[UUID, list[str]] = {}
    for backup_id, schedule_id in pairs:
        found.setdefault(backup_id, []).append(names.get(schedule_id, ""))
    return {backup_id: sorted(filter(None, of_it)) for backup_id, of_it in found.items()}


def last_backups(schedule_ids: Iterable[UUID]) -> dict[UUID, UUID]:
    """Return, by schedule, the backup that filled its last slot, if there is one."""
    newest = select(BackupSlot.schedule_id, func.max(BackupSlot.scheduled_for))
    newest = newest.where(BackupSlot.schedule_id.in_(list(schedule_ids)), BackupSlot.backup_id.is_not(None))
    last = tuple_(BackupSlot.schedule_id, BackupSlot.scheduled_for).in_(newest.group_by(BackupSlot.schedule_id))
    chosen = select(BackupSlot.schedule_id, BackupSlot.backup_id).where(last)
    return {schedule_id: backup_id for schedule_id, backup_id in db.session.execute(chosen) if backup_id is not None}


def belongs_to(schedule_id: UUID) -> ColumnElement[bool]:
    """Return the SQL condition that a backup was made for a schedule, or fills a slot of it that coincided with another
    schedule's."""
    filled = select(BackupSlot.backup_id).where(BackupSlot.schedule_id == schedule_id, BackupSlot.backup_id.is_not(None))
    return or_(BackupHistory.schedule_id == schedule_id, BackupHistory.id.in_(filled))


def number_of_backups(schedule_id: UUID) -> int:
    """Return the number of completed backups that belong to a schedule."""
    done = select(func.count()).where(BackupHistory.status == "completed", belongs_to(schedule_id))
    return db.session.scalar(done) or 0
