"""The rules for creating, changing, switching, previewing and running schedules, and the work of the minute tick."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, tuple_

from app.errors import Conflict, InvalidInput, NotFound, Unavailable
from app.extensions import db
from app.models import BackupHistory, BackupSchedule, BackupSlot, utcnow
from app.models.backup_history import LIVE
from app.models.backup_settings import QUOTA_COLUMNS
from app.runs import ledger, locks, queue
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.history import retention_plan
from app.services.inputs import ScheduleInput
from app.services.paging import Page
from app.services.people import reauthentication
from app.services.schedules import due_slots
from app.services.schedules.schedule_rules import RULE_COLUMNS, columns, rule_of

RUNS_SHOWN = 5
# A slot without a backup is overdue this long after its time, which leaves room for retries.
OVERDUE_AFTER = timedelta(hours=1)
LARGEST_NUMBER = 200


@dataclass(frozen=True)
class Preview:
    """A rule in words, its cron expression, and its next runs in UTC."""

    words: str
    cron: str
    timezone: str
    next_runs: list[datetime]


@dataclass(frozen=True)
class Overdue:
    """A schedule whose expected backup is missing, and the time when it was due."""

    schedule: BackupSchedule
    since: datetime
    slot_id: UUID | None
    announced: bool


def list_schedules(page: int = 1, page_size: int = 50) -> Page[BackupSchedule]:
    """Return a page of schedules, oldest first; pages count from 1."""
    chosen = select(BackupSchedule).where(BackupSchedule.deleted_at.is_(None))
    total = db.session.scalar(select(func.count()).select_from(chosen.subquery())) or 0
    oldest = chosen.order_by(BackupSchedule.created_at, BackupSchedule.id)
    items = list(db.session.scalars(oldest.limit(page_size).offset((page - 1) * page_size)))
    return Page(items, page, page_size, total)


def get(schedule_id: UUID) -> BackupSchedule:
    """Read a schedule afresh from the database. Raise NotFound."""
    row = db.session.get(BackupSchedule, schedule_id, populate_existing=True)
    if row is None or row.deleted_at is not None:
        raise NotFound("There is no such schedule. It may have been deleted.")
    return row


def create(actor: Actor, given: ScheduleInput, now: datetime | None = None) -> BackupSchedule:
    """Create a schedule; its first run is the next one after now. Raise InvalidInput."""
    now = now or utcnow()
    if not given.name:
        raise InvalidInput({"name": "Give it a name."})
    if (db.session.scalar(select(func.count()).where(BackupSchedule.deleted_at.is_(None))) or 0) >= LARGEST_NUMBER:
        raise Conflict(f"There are {LARGEST_NUMBER} schedules already. Delete one first.")
    quotas = {name: getattr(given, name) for name in QUOTA_COLUMNS}
    row = BackupSchedule(
        name=given.name, enabled=given.enabled is not False, created_at=now, updated_at=now, **columns(given), **quotas
    )
    row.next_run_at = rule_of(row).next_runs(now, 1)[0] if row.enabled else None
    db.session.add(row)
    db.session.flush()
    audit.record(actor, "schedule.created", "schedule", row.id, _recorded(row))
    db.session.commit()
    return row


def update(
    actor: Actor, schedule_id: UUID, given: ScheduleInput, now: datetime | None = None, password: str | None = None
) -> BackupSchedule:
    """Change a schedule and return it; omitted fields stay. A changed rule applies from now on.

    Other quotas may let a cleanup delete more, so an admin with a session gives the password again. Raise NotFound,
    InvalidInput, Throttled or Unauthenticated.
    """
    now = now or utcnow()
    row = get(schedule_id)
    names = given.model_fields_set
    if "name" in names and not given.name:
        raise InvalidInput({"name": "Give it a name."})
    wanted = columns(given, row)
    if "name" in names:
        wanted["name"] = given.name
    wanted |= {name: getattr(given, name) for name in QUOTA_COLUMNS if name in names}
    changes = {name: value for name, value in wanted.items() if value != getattr(row, name)}
    if changes.keys() & set(QUOTA_COLUMNS):
        reauthentication.require(actor, password)
    for name, value in changes.items():
        setattr(row, name, value)
    if changes:
        row.updated_at = now
        audit.record(actor, "schedule.changed", "schedule", row.id, changes)
    if row.enabled and changes.keys() & set(RULE_COLUMNS):
        row.next_run_at = rule_of(row).next_runs(now, 1)[0]
    if given.enabled is not None:
        _switch(actor, row, given.enabled, now)
    db.session.commit()
    if changes.keys() & set(QUOTA_COLUMNS):
        retention_plan.refresh()
    return row


def toggle(actor: Actor, schedule_id: UUID, enabled: bool | None = None, now: datetime | None = None) -> BackupSchedule:
    """Switch a schedule on or off (None: toggle) and return it. Raise NotFound."""
    row = get(schedule_id)
    _switch(actor, row, not row.enabled if enabled is None else enabled, now or utcnow())
    db.session.commit()
    return row


def delete(actor: Actor, schedule_id: UUID, now: datetime | None = None) -> None:
    """Delete a schedule. Its backups stay under its last quotas. Raise NotFound."""
    now = now or utcnow()
    row = get(schedule_id)
    row.deleted_at, row.enabled, row.next_run_at = now, False, None
    due_slots.drop_retries(row.id, now)
    audit.record(actor, "schedule.deleted", "schedule", row.id, {"name": row.name})
    db.session.commit()


def run(actor: Actor, schedule_id: UUID) -> BackupHistory:
    """Queue a backup that belongs to a schedule and return its row. It fills no slot.

    Raise NotFound; Conflict with the `id` of one that is queued or running for it; Unavailable.
    """
    schedule = get(schedule_id)
    locks.in_transaction(locks.START)
    filled = select(BackupSlot.backup_id).where(BackupSlot.schedule_id == schedule.id, BackupSlot.status == "running")
    live = select(BackupHistory).where(BackupHistory.status.in_(LIVE))
    theirs = (BackupHistory.schedule_id == schedule.id) | BackupHistory.id.in_(filled)
    running = db.session.scalar(live.where(theirs).limit(1))
    if running is not None:
        running_id, word = str(running.id), "queued" if running.status == "queued" else "running"
        db.session.rollback()
        raise Conflict(f"A backup of this schedule is already {word}. Wait until it has finished.", id=running_id)
    note = f"Run now: {schedule.name}"
    row = ledger.backups.open(actor.name, kind="manual", note=note, schedule_id=schedule.id)
    db.session.flush()
    audit.record(actor, "schedule.run", "schedule", schedule.id, {"backup": str(row.id)})
    db.session.commit()
    try:
        _enqueue(row.id)
    except queue.QueueUnavailable as error:
        ledger.backups.fail_queued(row.id, str(error))
        raise Unavailable(str(error), id=str(row.id)) from error
    return row


def preview(given: ScheduleInput, now: datetime | None = None) -> Preview:
    """Return an unsaved schedule in words, with its next runs. Raise InvalidInput."""
    values = columns(given)
    rule = rule_of(BackupSchedule(**values))
    return Preview(rule.in_words(), rule.cron, rule.timezone, rule.next_runs(now or utcnow(), RUNS_SHOWN))


def in_words(row: BackupSchedule) -> str:
    """Describe in words when a schedule runs."""
    return rule_of(row).in_words()


def due(now: datetime | None = None) -> None:
    """Close slots whose backups have ended, and queue what is due at `now`, at the minute tick. Any number of containers may
    call this at once; what can't be queued now is queued by the next tick."""
    backup_id = due_slots.decide(now or utcnow())
    if backup_id is not None:
        try:
            _enqueue(backup_id)
        except queue.QueueUnavailable:
            due_slots.logger.warning("queue unavailable; the next tick retries", backup_id=str(backup_id))


def overdue(now: datetime | None = None) -> list[Overdue]:
    """Return the enabled schedules whose last slot is overdue for a backup."""
    now = now or utcnow()
    before = now - OVERDUE_AFTER
    found = []
    newest = select(BackupSlot.schedule_id, func.max(BackupSlot.scheduled_for)).group_by(BackupSlot.schedule_id)
    last = select(BackupSlot).where(tuple_(BackupSlot.schedule_id, BackupSlot.scheduled_for).in_(newest))
    last = last.execution_options(populate_existing=True)
    slot_of = {slot.schedule_id: slot for slot in db.session.scalars(last)}
    enabled = select(BackupSchedule).where(BackupSchedule.enabled, BackupSchedule.deleted_at.is_(None))
    for schedule in db.session.scalars(enabled.order_by(BackupSchedule.created_at)):
        slot = slot_of.get(schedule.id)
        if slot is not None and slot.status in ("pending", "running", "failed") and slot.scheduled_for < before:
            if not _under_way(slot):
                found.append(Overdue(schedule, slot.scheduled_for, slot.id, slot.status == "failed"))
        elif schedule.next_run_at is not None and schedule.next_run_at < before:
            found.append(Overdue(schedule, schedule.next_run_at, None, False))
    return found


def _under_way(slot: BackupSlot) -> bool:
    backup = db.session.get(BackupHistory, slot.backup_id) if slot.backup_id else None
    return slot.status == "running" and backup is not None and backup.status == "in_progress"


def _switch(actor: Actor, row: BackupSchedule, enabled: bool, now: datetime) -> None:
    if row.enabled == enabled:
        return
    row.enabled, row.updated_at = enabled, now
    row.next_run_at = rule_of(row).next_runs(now, 1)[0] if enabled else None
    if not enabled:
        due_slots.drop_retries(row.id, now)
    audit.record(actor, "schedule.enabled" if enabled else "schedule.disabled", "schedule", row.id)


def _enqueue(backup_id: UUID) -> None:
    queue.enqueue(queue.BACKUPS, queue.BACKUP_JOB, backup_id, ledger.backups.job_id(backup_id))
    ledger.backups.mark_enqueued(backup_id)


def _recorded(row: BackupSchedule) -> dict[str, object]:
    values = {name: getattr(row, name) for name in ("name", *RULE_COLUMNS, *QUOTA_COLUMNS)}
    return {name: value for name, value in values.items() if value is not None}
