"""Classify the days of the last twelve months: backups completed, with or without warnings, failed, and missed.

Retention deletes backups and their rows. Their outcome is still known from the audit log, which records how each deleted
backup ended, and from the schedules' slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from uuid import UUID

from sqlalchemy import Date, DateTime, case, cast, func, or_, select

from app.engine.planning.schedule_times import ScheduleError
from app.extensions import db
from app.models import AuditEntry, BackupHistory, BackupSchedule, BackupSlot, utcnow
from app.services.schedules.schedule_rules import RULE_COLUMNS, rule_of
from app.services.schedules.schedules import OVERDUE_AFTER

DAYS = 366
# Count at most this many runs per gap: a day without a schedule that runs every minute.
LARGEST_GAP = 1440
# A longer time than this between two slots may hide a missing one. Custom rules are checked by the day.
LONGEST_REGULAR = {
    "hourly": timedelta(minutes=95),
    "daily": timedelta(hours=26),
    "weekly": timedelta(days=7, hours=2),
    "monthly": timedelta(days=31, hours=2),
    "custom": timedelta(hours=26),
}
Row, Slot = BackupHistory, BackupSlot


@dataclass(frozen=True)
class Day:
    """A day in UTC and its backups; `missed` counts the runs that left no slot."""

    day: date
    done: int = 0
    warned: int = 0
    failed: int = 0
    missed: int = 0

    @property
    def state(self) -> str:
        """The day's worst outcome: "failed", "missed", "warned", "done", or "none"."""
        for name in ("failed", "missed", "warned", "done"):
            if getattr(self, name):
                return name
        return "none"


def days(now: datetime | None = None) -> list[Day]:
    """Return the last 366 days up to today, oldest first."""
    now = (now or utcnow()).astimezone(UTC)
    first = now.date() - timedelta(days=DAYS - 1)
    found = {first + timedelta(days=number): Day(first + timedelta(days=number)) for number in range(DAYS)}
    since = datetime(first.year, first.month, first.day, tzinfo=UTC)
    for seen in (*_from_history(since), *_from_audit_log(since)):
        if seen.day in found:
            found[seen.day] = _added(found[seen.day], seen)
    for seen in _from_slots(since):
        if seen.day in found:
            known = found[seen.day]
            done = known.done if known.warned else max(known.done, seen.done)
            found[seen.day] = replace(known, done=done, failed=max(known.failed, seen.failed))
    for day in _missed(since, now):
        if day in found:
            found[day] = replace(found[day], missed=found[day].missed + 1)
    return list(found.values())


def _added(one: Day, other: Day) -> Day:
    return Day(
        one.day,
        one.done + other.done,
        one.warned + other.warned,
        one.failed + other.failed,
        one.missed,
    )


def _from_history(since: datetime) -> Iterator[Day]:
    began = func.coalesce(Row.started_at, Row.created_at)
    day = cast(began, Date)
    completed, warned = Row.status == "completed", func.cardinality(Row.warnings) > 0
    chosen = select(
        day,
        func.count().filter(completed, ~warned),
        func.count().filter(completed, warned),
        func.count().filter(Row.status == "failed"),
    )
    chosen = chosen.where(Row.created_at >= since - timedelta(days=1), began >= since, Row.kind != "uploaded").group_by(day)
    for found, done, with_warnings, failed in db.session.execute(chosen):
        yield Day(found, done, with_warnings, failed)


def _from_audit_log(since: datetime) -> Iterator[Day]:
    """Read the outcomes of deleted backups: see `figures.remembered`."""
    detail = AuditEntry.detail
    day = cast(cast(detail["started_at"].astext, DateTime(timezone=True)), Date)
    status, warned = detail["status"].astext, detail["warnings"].astext != "0"
    chosen = select(
        day,
        func.count().filter(status == "completed", ~warned),
        func.count().filter(status == "completed", warned),
        func.count().filter(status == "failed"),
    )
    deleted = (AuditEntry.action == "backup.deleted", AuditEntry.at >= since, detail["started_at"].astext.is_not(None))
    for found, done, with_warnings, failed in db.session.execute(
        chosen.where(*deleted, detail["kind"].astext != "uploaded").group_by(day)
    ):
        yield Day(found, done, with_warnings, failed)


def _from_slots(since: datetime) -> Iterator[Day]:
    """Read the outcomes of slots whose backups are gone; coinciding slots were one backup."""
    day = cast(Slot.scheduled_for, Date)
    moments = func.count(Slot.scheduled_for.distinct())
    chosen = select(day, moments.filter(Slot.status == "completed"), moments.filter(Slot.status == "failed"))
    gone = (Slot.backup_id.is_(None), Slot.scheduled_for >= since, Slot.status.in_(("completed", "failed")))
    for found, done, failed in db.session.execute(chosen.where(*gone).group_by(day)):
        yield Day(found, done, 0, failed)


def _missed(since: datetime, now: datetime) -> Iterator[date]:
    """Yield the day of each run that left no slot, by the current rules of the enabled schedules, and only for the time
    since those rules apply."""
    enabled = select(BackupSchedule).where(BackupSchedule.enabled, BackupSchedule.deleted_at.is_(None))
    schedules = {schedule.id: schedule for schedule in db.session.scalars(enabled)}
    begun = _in_force_since()
    starts = {key: max(since, begun.get(str(key), row.created_at)) for key, row in schedules.items()}
    latest = now - OVERDUE_AFTER
    gaps = _gaps(since, latest) + [(key, starts[key], latest) for key in schedules.keys() - _with_slots()]
    for key, before, after in gaps:
        if key in schedules:
            yield from _runs_between(schedules[key], max(before, starts[key]), after)


def _runs_between(schedule: BackupSchedule, before: datetime, after: datetime) -> Iterator[date]:
    try:
        for run in islice(rule_of(schedule).runs_after(before), LARGEST_GAP):
            if run >= after:
                return
            yield run.astimezone(UTC).date()
    except ScheduleError:
        return


def _gaps(since: datetime, latest: datetime) -> list[tuple[UUID, datetime, datetime]]:
    """Return the schedules with two consecutive slots further apart than any rule of their frequency allows; `latest`
    counts as the slot after the last."""
    following = func.lead(Slot.scheduled_for).over(partition_by=Slot.schedule_id, order_by=Slot.scheduled_for)
    pairs = select(
        Slot.schedule_id.label("schedule_id"),
        Slot.scheduled_for.label("before"),
        func.coalesce(following, latest).label("after"),
        case(LONGEST_REGULAR, value=BackupSchedule.frequency).label("regular"),
    )
    pairs = pairs.join(BackupSchedule, BackupSchedule.id == Slot.schedule_id)
    listed = pairs.where(Slot.scheduled_for >= since, BackupSchedule.enabled).subquery()
    suspicious = select(listed.c.schedule_id, listed.c.before, listed.c.after)
    found = db.session.execute(suspicious.where(listed.c.after - listed.c.before > listed.c.regular))
    return [(key, before, after) for key, before, after in found]


def _with_slots() -> set[UUID]:
    return set(db.session.scalars(select(Slot.schedule_id).distinct()))


def _in_force_since() -> dict[str, datetime]:
    """Return since when each schedule's current rule applies."""
    entry = AuditEntry
    begins = entry.action.in_(("schedule.created", "schedule.enabled"))
    changed = (entry.action == "schedule.changed") & or_(*(entry.detail[name].is_not(None) for name in RULE_COLUMNS))
    chosen = select(entry.subject_id, func.max(entry.at)).where(entry.subject_type == "schedule", begins | changed)
    return {subject: at for subject, at in db.session.execute(chosen.group_by(entry.subject_id)) if subject is not None}
