"""Forecast the effect of coming runs on retention, as pure functions: which backups leave, when, and what remains."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from typing import Any
from uuid import UUID

from .retention import CATEGORIES, FOR_GOOD, SAFETY_DAYS, Candidate, Decision, Quotas, period_of, plan
from .schedule_times import ScheduleRule

DAY = timedelta(days=1)
MOMENT = timedelta(microseconds=1)


def runs_that_matter(
    rule: ScheduleRule, now: datetime, until: datetime, horizons: Sequence[datetime], newest: int
) -> list[datetime]:
    """Return, in order, those of a rule's coming runs that can affect retention.

    These are the first of each UTC day, since only they can be daily, weekly or monthly ones; and of the others the last
    `newest` before each horizon and the first `newest` from now on, since no hourly category keeps more. A schedule that
    runs every minute has half a million runs a year, of which these are a few hundred.
    """
    found = set(islice(takewhile(lambda run: run <= until, rule.runs_after(now)), newest))
    if len(found) < newest:
        return sorted(found)  # these are all of them
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + DAY
    while day <= until:
        run = next(rule.runs_after(day - MOMENT), None)
        if run is None or run > until:
            break
        found.add(run)
        day = run.replace(hour=0, minute=0, second=0, microsecond=0) + DAY
    for horizon in horizons:
        found |= _last_runs(rule, now, horizon, newest)
    return sorted(found)


def _last_runs(rule: ScheduleRule, now: datetime, horizon: datetime, number: int) -> set[datetime]:
    """Return the last runs after `now`, up to a horizon."""
    window = timedelta(minutes=number)
    while True:
        since = max(now, horizon - window)
        last = deque(takewhile(lambda run: run <= horizon, rule.runs_after(since)), maxlen=number)
        if len(last) == number or since == now:
            return set(last)
        window *= 4


class Outlook:
    """The effect of the coming runs on the backups: which of the runs will belong to each set's categories.

    `future` has each set's coming runs in order; nothing is known beyond its end.
    """

    def __init__(self, backups: Iterable[Candidate], future: Mapping[str, Sequence[datetime]]) -> None:
        self._future = future
        self._taken: dict[tuple[str, str], set[Any]] = {}
        self._coming: dict[tuple[str, str], list[datetime]] = {}
        for backup in backups:
            if backup.classifies:
                for set_name in backup.sets:
                    for category in CATEGORIES[1:]:
                        taken = self._taken.setdefault((set_name, category), set())
                        taken.add(period_of(category, backup.started_at))

    def coming(self, set_name: str, category: str) -> list[datetime]:
        """Return a set's coming runs that will be the first of their period in a category, in order."""
        found = self._coming.get((set_name, category))
        if found is None:
            found = self._coming[set_name, category] = self._reckon(set_name, category)
        return found

    def leaves_at(self, decision: Decision) -> datetime | None:
        """Return when the last category that protects a backup releases it; None: never, or not within the known runs.
        Temporary shields (newest, in use) are ignored."""
        if FOR_GOOD.intersection(decision.shields):
            return None
        if decision.backup.kind == "safety":
            return decision.backup.started_at + timedelta(days=SAFETY_DAYS)
        latest: datetime | None = None
        for rank in decision.ranks:
            if rank.protects:
                coming = self.coming(rank.set_name, rank.category)
                needed = rank.quota - rank.place
                if needed >= len(coming):
                    return None
                latest = max(latest, coming[needed]) if latest else coming[needed]
        return latest

    def _reckon(self, set_name: str, category: str) -> list[datetime]:
        runs = self._future.get(set_name, ())
        if category == "hourly":
            return list(runs)
        taken = set(self._taken.get((set_name, category), ()))
        members = []
        for run in runs:
            period = period_of(category, run)
            if period not in taken:
                taken.add(period)
                members.append(run)
        return members


@dataclass(frozen=True)
class Forecast:
    """The expected backups and bytes at a time, with unchanged schedules."""

    at: datetime
    backups: int
    bytes: int


def forecast(
    backups: Sequence[Candidate],
    quotas: Mapping[str, Quotas],
    future: Sequence[tuple[datetime, frozenset[str]]],
    horizons: Sequence[datetime],
    size_bytes: int,
) -> list[Forecast]:
    """Forecast backups and bytes from the coming runs, with their sets, and the expected size of a backup."""
    coming = [
        Candidate(UUID(int=number), at, size_bytes, "scheduled", verified=True, sets=sets)
        for number, (at, sets) in enumerate(future, start=1)
    ]
    found = []
    for horizon in horizons:
        by_then = bisect_right(coming, horizon, key=lambda backup: backup.started_at)
        kept = plan([*backups, *coming[:by_then]], quotas, horizon).kept
        found.append(Forecast(horizon, len(kept), sum(decision.backup.size_bytes for decision in kept)))
    return found
