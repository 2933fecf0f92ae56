"""Slots: which are due, which backup fills them, and how they are closed when it ends. Everything is decided from
PostgreSQL, by one container at a time, for a moment that the caller may choose.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert

from app.engine.planning.schedule_times import ScheduleError
from app.extensions import db
from app.models import BackupHistory, BackupSchedule, BackupSlot
from app.runs import ledger, locks
from app.services.schedules.schedule_rules import rule_of

logger = structlog.get_logger(__name__)

# A slot whose run failed is retried after each of these delays, then it has failed.
RETRY_AFTER = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15))
MOMENT = timedelta(microseconds=1)
REQUESTED_BY = "schedule"
# A container that hangs while it decides must not block the others.
HANGS_AFTER = "60s"
ENDED = {"completed": "completed", "cancelled": "cancelled"}


def decide(now: datetime) -> UUID | None:
    """Close slots that have ended, open those that are due, and create a backup for them. Return the backup to enqueue, or
    None if nothing is due or another container is deciding."""
    if not _alone():
        db.session.rollback()
        return None
    _settle(now)
    _open(now)
    backup_id = _fill(now)
    db.session.commit()
    return backup_id


def settle(now: datetime) -> None:
    """Close the slots whose backups have ended, unless another container is already doing so."""
    if _alone():
        _settle(now)
        db.session.commit()
    else:
        db.session.rollback()


def schedules_of(backup_id: UUID) -> list[BackupSchedule]:
    """Return the schedules whose slots a backup fills, and the one that it was started for, oldest first."""
    filled = select(BackupSlot.schedule_id).where(BackupSlot.backup_id == backup_id)
    named = select(BackupHistory.schedule_id).where(BackupHistory.id == backup_id)
    chosen = select(BackupSchedule).where(BackupSchedule.id.in_(filled) | BackupSchedule.id.in_(named))
    return list(db.session.scalars(chosen.order_by(BackupSchedule.created_at, BackupSchedule.id)))


def of_backup(backup_id: UUID) -> list[BackupSlot]:
    """Return the slots that a backup fills."""
    chosen = select(BackupSlot).where(BackupSlot.backup_id == backup_id)
    return list(db.session.scalars(chosen.order_by(BackupSlot.scheduled_for, BackupSlot.schedule_id)))


def drop_retries(schedule_id: UUID, now: datetime) -> None:
    """Drop the pending retries of a schedule that was switched off or deleted. The caller commits."""
    waiting = (BackupSlot.schedule_id == schedule_id, BackupSlot.status == "pending")
    db.session.execute(update(BackupSlot).where(*waiting).values(status="cancelled", finished_at=now))


def restore_slots(backup_id: UUID, pairs: Iterable[tuple[UUID, datetime]]) -> None:
    """Point the slots that a rediscovered backup's manifest names at that backup. The caller commits."""
    for schedule_id, scheduled_for in pairs:
        if db.session.get(BackupSchedule, schedule_id) is None:
            continue
        values = {"schedule_id": schedule_id, "scheduled_for": scheduled_for, "status": "completed"}
        statement = insert(BackupSlot).values(**values, backup_id=backup_id, attempts=1, finished_at=scheduled_for)
        db.session.execute(
            statement.on_conflict_do_update(
                index_elements=[BackupSlot.schedule_id, BackupSlot.scheduled_for],
                set_={"backup_id": backup_id, "status": "completed"},
                where=BackupSlot.backup_id.is_(None),
            )
        )


def _alone() -> bool:
    db.session.rollback()
    db.session.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = '{HANGS_AFTER}'"))
    return locks.try_in_transaction(locks.SCHEDULES)


def _settle(now: datetime) -> None:
    running = select(BackupSlot).where(BackupSlot.status == "running").with_for_update()
    for slot in db.session.scalars(running.execution_options(populate_existing=True)).all():
        backup = db.session.get(BackupHistory, slot.backup_id, populate_existing=True) if slot.backup_id else None
        schedule = db.session.get_one(BackupSchedule, slot.schedule_id)
        if backup is None:
            # Its backup was deleted before it completed, so the slot is due again.
            slot.status, slot.next_attempt_at = "pending", now
        elif backup.status in ENDED:
            slot.status, slot.finished_at = ENDED[backup.status], now
            slot.error = None if backup.status == "completed" else slot.error
            _note(schedule, backup, slot.status)
        elif backup.status == "failed":
            _failed(slot, schedule, backup, now)


def _failed(slot: BackupSlot, schedule: BackupSchedule, backup: BackupHistory, now: datetime) -> None:
    slot.error = backup.error
    again = slot.attempts <= len(RETRY_AFTER) and schedule.enabled and schedule.deleted_at is None
    if again:
        slot.status, slot.next_attempt_at = "pending", now + RETRY_AFTER[slot.attempts - 1]
    else:
        slot.status, slot.finished_at = "failed", now
    _note(schedule, backup, "retrying" if again else "failed")


def _note(schedule: BackupSchedule, backup: BackupHistory, status: str) -> None:
    schedule.last_run_at, schedule.last_status = backup.started_at or backup.created_at, status


def _open(now: datetime) -> None:
    """Open a slot for each schedule that is due; any number of missed runs makes one catch-up run."""
    enabled = select(BackupSchedule).where(BackupSchedule.enabled, BackupSchedule.deleted_at.is_(None)).with_for_update()
    due = (BackupSchedule.next_run_at <= now) | BackupSchedule.next_run_at.is_(None)
    for schedule in db.session.scalars(enabled.where(due).execution_options(populate_existing=True)).all():
        try:
            rule = rule_of(schedule)
            slot_time = rule.latest_due(schedule.next_run_at - MOMENT, now) if schedule.next_run_at else None
            schedule.next_run_at = rule.next_runs(now, 1)[0]
        except (ScheduleError, IndexError) as error:
            logger.error("next run can't be computed", schedule=schedule.name, reason=str(error))
            continue
        if slot_time is not None:
            values = {"schedule_id": schedule.id, "scheduled_for": slot_time, "status": "pending", "next_attempt_at": now}
            db.session.execute(insert(BackupSlot).values(**values, attempts=0).on_conflict_do_nothing())


def _fill(now: datetime) -> UUID | None:
    """Let one backup fill all pending slots: one that is already queued, the one that failed, or a new one."""
    pending = select(BackupSlot).where(BackupSlot.status == "pending")
    due = set(db.session.scalars(pending.where(BackupSlot.next_attempt_at <= now).with_only_columns(BackupSlot.schedule_id)))
    if not due:
        return None
    # A schedule's older slot that waits for a retry is filled along with the new one.
    chosen = pending.where(BackupSlot.schedule_id.in_(due)).order_by(BackupSlot.scheduled_for.desc(), BackupSlot.schedule_id)
    waiting = db.session.scalars(chosen.with_for_update().execution_options(populate_existing=True)).all()
    backup_id = _queued() or _reopened(waiting) or _new(waiting)
    for slot in waiting:
        if slot.backup_id not in (None, backup_id):
            _skip_notification(slot.backup_id, now)
        slot.status, slot.backup_id, slot.next_attempt_at = "running", backup_id, None
        slot.attempts += 1
    return backup_id


def _queued() -> UUID | None:
    """Return a scheduled backup that has not begun yet: its contents will be as recent as those of one queued now."""
    chosen = select(BackupHistory.id).where(BackupHistory.kind == "scheduled", BackupHistory.status == "queued")
    return db.session.scalar(chosen.order_by(BackupHistory.created_at.desc()).limit(1).with_for_update())


def _reopened(waiting: Iterable[BackupSlot]) -> UUID | None:
    for slot in waiting:
        if slot.backup_id is not None and ledger.backups.reopen(slot.backup_id):
            return slot.backup_id
    return None


def _new(waiting: Iterable[BackupSlot]) -> UUID:
    first = next(iter(waiting))
    row = ledger.backups.open(
        REQUESTED_BY, kind="scheduled", schedule_id=first.schedule_id, scheduled_for=first.scheduled_for
    )
    db.session.flush()
    return row.id


def _skip_notification(backup_id: UUID | None, now: datetime) -> None:
    """Mark a failed backup whose slots another one fills now as notified, so that it is not announced."""
    notified = update(BackupHistory).where(BackupHistory.id == backup_id, BackupHistory.notified_at.is_(None))
    db.session.execute(notified.values(notified_at=now))
