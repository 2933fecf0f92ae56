"""The data of the retention chart: which backups each category keeps, their ages, which leave next, and the forecast.

Computing it for thousands of backups takes a moment, so the result is cached in Redis until something that it depends on
changes; the minute tick refreshes it, so that a page rarely waits for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from redis.exceptions import RedisError
from sqlalchemy import func, select

from app.engine.planning.forecast import Forecast, Outlook
from app.engine.planning.retention import CATEGORIES, Decision
from app.extensions import db
from app.models import BackupHistory, BackupSchedule, utcnow
from app.models.backup_settings import QUOTA_COLUMNS
from app.runs import queue
from app.services import settings_row
from app.services.retention import retention
from app.services.schedules.schedule_rules import RULE_COLUMNS

# Ages up to each of these are drawn at the same length, so that recent backups get more space.
STRETCHES = (timedelta(days=1), timedelta(days=7), timedelta(days=31), timedelta(days=366))
BINS = 24  # of each stretch
OTHERWISE = "otherwise"
LEAVING = 10
SOON = timedelta(days=31)
KEPT_FOR = timedelta(minutes=10)
KEY = "backup:timeline:"


@dataclass(frozen=True)
class Spot:
    """Backups of about the same age: `place` is 0 for now and grows by 1 with each stretch of ages."""

    place: float
    backups: int
    newest: datetime
    oldest: datetime
    leaves_next: bool


@dataclass(frozen=True)
class Lane:
    """What one category keeps; `quota` None: there is none, or each set has its own."""

    name: str
    kept: int
    quota: int | None
    spots: list[Spot]


@dataclass(frozen=True)
class Leaving:
    """A backup that will be deleted, and when, with today's schedules."""

    backup_id: UUID
    started_at: datetime
    size_bytes: int
    leaves_at: datetime
    tiers: list[str]


@dataclass(frozen=True)
class Timeline:
    """`stretches` is how many of STRETCHES are needed, and one more if a backup is older than all of them. `deleted` are
    those that the next cleanup deletes; `missing` counts archives that are not in the storage folder."""

    lanes: list[Lane]
    stretches: int
    kept: int
    kept_bytes: int
    deleted: int
    deleted_bytes: int
    missing: int
    leaving: list[Leaving]
    forecast: list[Forecast]


_JSON = TypeAdapter(Timeline)


def timeline() -> Timeline:
    """Return the current chart, cached for a few minutes if nothing has changed since."""
    key = KEY + _fingerprint()
    try:
        kept = queue.connection().get(key)
        if kept is not None:
            return _JSON.validate_json(kept)
    except (RedisError, ValidationError):
        pass
    found = reckoned(utcnow())
    try:
        queue.connection().set(key, _JSON.dump_json(found), ex=KEPT_FOR)
    except RedisError:
        pass
    return found


def reckoned(now: datetime) -> Timeline:
    """Compute the chart for a moment, without the cache."""
    found = retention.reckon(now)
    kept, deleted = found.plan.kept, found.plan.deleted
    leaving = _leaving(kept, found.outlook)
    next_ones = _next_ones(leaving, now)
    single = len(found.rules.quotas) == 1
    lanes = [
        _lane(
            name,
            found.rules.common.of(name) if single else None,
            [d for d in kept if any(rank.category == name and rank.protects for rank in d.ranks)],
            next_ones,
            now,
        )
        for name in CATEGORIES
    ]
    lanes.append(_lane(OTHERWISE, None, [d for d in kept if not any(rank.protects for rank in d.ranks)], next_ones, now))
    oldest = max((place_of(now - decision.backup.started_at) for decision in kept), default=0.0)
    return Timeline(
        lanes=lanes,
        stretches=max(2, min(len(STRETCHES) + 1, int(oldest) + 1)),
        kept=len(kept),
        kept_bytes=sum(decision.backup.size_bytes for decision in kept),
        deleted=len(deleted),
        deleted_bytes=sum(decision.backup.size_bytes for decision in deleted),
        missing=len(found.stock.missing),
        leaving=leaving,
        forecast=found.forecast(),
    )


def place_of(age: timedelta) -> float:
    """Return the place of an age: 0.5 is half a day, 1 a day, 2 a week, 3 a month, 4 a year, 5 anything older."""
    before = timedelta(0)
    for number, end in enumerate(STRETCHES):
        if age < end:
            return number + max(0.0, (age - before) / (end - before))
        before = end
    return len(STRETCHES) + 0.5


def _lane(name: str, quota: int | None, kept: list[Decision], next_ones: set[UUID], now: datetime) -> Lane:
    bins: dict[int, list[Decision]] = {}
    for decision in kept:
        bins.setdefault(int(place_of(now - decision.backup.started_at) * BINS), []).append(decision)
    return Lane(name, len(kept), quota, [_spot(number, bins[number], next_ones) for number in sorted(bins)])


def _spot(number: int, decisions: list[Decision], next_ones: set[UUID]) -> Spot:
    moments = [decision.backup.started_at for decision in decisions]
    leaves = any(decision.backup.id in next_ones for decision in decisions)
    return Spot((number + 0.5) / BINS, len(decisions), max(moments), min(moments), leaves)


def _leaving(kept: Iterable[Decision], outlook: Outlook) -> list[Leaving]:
    found = []
    for decision in kept:
        leaves = outlook.leaves_at(decision)
        if leaves is not None:
            found.append((leaves, decision))
    found.sort(key=lambda pair: (pair[0], pair[1].backup.started_at))
    return [
        Leaving(
            decision.backup.id,
            decision.backup.started_at,
            decision.backup.size_bytes,
            leaves,
            [rank.category for rank in decision.ranks if rank.protects],
        )
        for leaves, decision in found[:LEAVING]
    ]


def _next_ones(leaving: list[Leaving], now: datetime) -> set[UUID]:
    """Return the backups to mark: those that leave within a day, otherwise the first if it leaves soon."""
    if not leaving or leaving[0].leaves_at > now + SOON:
        return set()
    latest = max(now + timedelta(days=1), leaving[0].leaves_at)
    return {entry.backup_id for entry in leaving if entry.leaves_at <= latest}


def _fingerprint() -> str:
    """Return a text that changes with the backups, the quotas and the schedules."""
    row, schedule = BackupHistory, BackupSchedule
    backups = select(
        func.count(),
        func.sum(row.size_bytes),
        func.max(row.created_at),
        func.max(row.verified_at),
        func.count().filter(row.pinned),
    ).where(row.status == "completed")
    # Not their `updated_at`, which each run changes.
    names = ("id", "enabled", "deleted_at", *RULE_COLUMNS, *QUOTA_COLUMNS)
    schedules = select(*(getattr(schedule, name) for name in names)).order_by(schedule.id)
    seen: list[object] = [tuple(found) for chosen in (backups, schedules) for found in db.session.execute(chosen)]
    seen += [getattr(settings_row.row(), name) for name in QUOTA_COLUMNS]
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:32]
