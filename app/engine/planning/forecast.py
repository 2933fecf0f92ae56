"""What the coming runs will do to retention, as pure functions: which backups they push out, when, and what remains."""

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
    """Return, in order, those of a rule's coming runs that retention can tell apart from the others.

    These are the first of each UTC day, which alone can be daily, weekly or monthly ones, and of the others the `newest`
    many before each horizon, and the first so many from now on: no hourly tier keeps more. A schedule that runs every minute
    has half a million runs a year, of which these are a few hundred.
    """
    found = set(islice(takewhile(lambda run: run <= until, rule.runs_after(now)), newest))
    if len(found) < newest:
        return sorted(found)  # these are all
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
    """Return the last runs after `now` and up to a horizon."""
    window = timedelta(minutes=number)
    while True:
        since = max(now, horizon - window)
        last = deque(takewhile(lambda run: run <= horizon, rule.runs_after(since)), maxlen=number)
        if len(last) == number or since == now:
            return set(last)
        window *= 4


class Outlook:
    """What the coming runs will do to the backups: which of them will be members of each set's categories.

    `future` holds each set's coming runs in order; beyond its end nothing is known.
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
        """Given a set and a category, return the coming runs that will be the first of their period, in order."""
        found = self._coming.get((set_name, category))
        if found is None:
            found = self._coming[set_name, category] = self._reckon(set_name, category)
        return found

    def leaves_at(self, decision: Decision) -> datetime | None:
        """Given a decision, return when the last tier that protects its backup lets it go; None: never, or not within the
        runs that are known. A shield that is only for now (newest, in use) is not looked at."""
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
    """How many backups, and how many bytes, there will be at a time if the schedules run as they are."""

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
    """Given the backups, the coming runs with their sets, and the size that one is expected to have, look ahead."""
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
