"""Tiered retention as pure functions: which backups are kept, by which tier, and which leave when.

Values in, decisions out; nothing here reads a clock, a database or a disk. A backup belongs to every category that it
qualifies for, is kept while any category of any set protects it, and can say why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

CATEGORIES = ("hourly", "daily", "weekly", "monthly")
SAFETY_DAYS = 7
DEFAULT_SET = "default"
IN_USE = "in use right now"
UNCLASSIFIED_KINDS = frozenset({"uploaded", "safety"})


@dataclass(frozen=True)
class Quotas:
    """How many backups each category keeps; 0 switches a category off."""

    hourly: int = 8
    daily: int = 7
    weekly: int = 4
    monthly: int = 12

    def of(self, category: str) -> int:
        return int(getattr(self, category))


@dataclass(frozen=True)
class Candidate:
    """A completed backup, as retention sees it. `sets` names the quota sets that it belongs to; sizes are bytes."""

    id: UUID
    started_at: datetime
    size_bytes: int = 0
    kind: str = "manual"
    pinned: bool = False
    verified: bool = False
    in_use: bool = False
    sets: frozenset[str] = frozenset({DEFAULT_SET})

    @property
    def classifies(self) -> bool:
        return not self.pinned and self.kind not in UNCLASSIFIED_KINDS


class Rank(NamedTuple):
    """A backup's place in a category of a set: 1 is the newest; within `quota` it is protected."""

    set_name: str
    category: str
    place: int
    quota: int

    @property
    def protects(self) -> bool:
        return self.place <= self.quota


class Decision(NamedTuple):
    """What becomes of a backup: kept for these reasons, or deleted for want of any."""

    backup: Candidate
    categories: tuple[str, ...]
    ranks: tuple[Rank, ...]
    shields: tuple[str, ...]

    @property
    def keep(self) -> bool:
        return bool(self.shields) or any(rank.protects for rank in self.ranks)


@dataclass(frozen=True)
class Plan:
    """The decisions on all backups, newest first."""

    decisions: tuple[Decision, ...]
    by_id: Mapping[UUID, Decision] = field(repr=False)

    @property
    def deleted(self) -> list[Decision]:
        return [decision for decision in self.decisions if not decision.keep]

    @property
    def kept(self) -> list[Decision]:
        return [decision for decision in self.decisions if decision.keep]


def period_of(category: str, moment: datetime) -> Any:
    """Given a category and an aware time, return the period in UTC of which it holds the first backup; None: every one.

    Days begin at 00:00, weeks on Sunday, months on the 1st.
    """
    day = moment.astimezone(UTC).date()
    if category == "daily":
        return day.toordinal()
    if category == "weekly":
        return day.toordinal() // 7  # proleptic ordinal 1 is a Monday, so multiples of 7 are Sundays
    if category == "monthly":
        return day.year * 12 + day.month
    return None


def classify(backups: Iterable[Candidate], set_name: str) -> dict[UUID, list[str]]:
    """Given backups, return the categories of those that classify in this set; the order that they come in is no matter."""
    members = sorted(
        (backup for backup in backups if backup.classifies and set_name in backup.sets), key=lambda b: (b.started_at, b.id)
    )
    found: dict[UUID, list[str]] = {}
    seen: dict[str, Any] = {}
    today = None
    for backup in members:
        categories = ["hourly"]
        found[backup.id] = categories
        day = period_of("daily", backup.started_at)
        if day == today:  # the first of a week or a month is the first of its day too
            continue
        today = day
        for category in CATEGORIES[1:]:
            period = period_of(category, backup.started_at)
            if seen.get(category) != period:
                seen[category] = period
                categories.append(category)
    return found


def plan(backups: Iterable[Candidate], quotas: Mapping[str, Quotas], now: datetime) -> Plan:
    """Given all completed backups and the quotas of every set that they name, decide what is kept at `now`.

    Whatever happens, the newest backup, the newest verified one, pinned, uploaded and used ones, and safety backups of the
    last seven days are kept.
    """
    newest_first = sorted(backups, key=lambda b: (b.started_at, b.id), reverse=True)
    ranks: dict[UUID, list[Rank]] = {}
    categories: dict[UUID, set[str]] = {}
    for set_name, quota in quotas.items():
        found = classify(newest_first, set_name)
        places = dict.fromkeys(CATEGORIES, 0)
        for backup in newest_first:
            for category in found.get(backup.id, ()):
                if quota.of(category) == 0:
                    continue
                places[category] += 1
                ranks.setdefault(backup.id, []).append(Rank(set_name, category, places[category], quota.of(category)))
                categories.setdefault(backup.id, set()).add(category)
    shields = _shields(newest_first, now)
    decisions = tuple(
        Decision(
            backup,
            tuple(category for category in CATEGORIES if category in categories.get(backup.id, ())),
            tuple(ranks.get(backup.id, ())),
            tuple(shields.get(backup.id, ())),
        )
        for backup in newest_first
    )
    return Plan(decisions, {decision.backup.id: decision for decision in decisions})


def _shields(newest_first: Sequence[Candidate], now: datetime) -> dict[UUID, list[str]]:
    """Return what protects backups beside the tiers."""
    found: dict[UUID, list[str]] = {}

    def shield(backup: Candidate | None, reason: str) -> None:
        if backup is not None:
            found.setdefault(backup.id, []).append(reason)

    shield(next(iter(newest_first), None), "the newest backup")
    shield(next((backup for backup in newest_first if backup.verified), None), "the newest verified backup")
    for backup in newest_first:
        if backup.pinned:
            shield(backup, "pinned")
        if backup.kind == "uploaded":
            shield(backup, "uploaded")
        if backup.in_use:
            shield(backup, IN_USE)
        if backup.kind == "safety" and now - backup.started_at < timedelta(days=SAFETY_DAYS):
            shield(backup, f"a safety backup younger than {SAFETY_DAYS} days")
    return found


def expires_at(decision: Decision, quotas: Mapping[str, Quotas]) -> datetime | None:
    """Given a decision, return when its longest category's period ends, counted from its start; None: no such end.

    A figure to show; the quotas decide.
    """
    backup = decision.backup
    if backup.kind == "safety":
        return backup.started_at + timedelta(days=SAFETY_DAYS)
    ends = [
        _period_end(backup.started_at, rank.category, quotas[rank.set_name].of(rank.category)) for rank in decision.ranks
    ]
    return max(ends, default=None)


def _period_end(start: datetime, category: str, quota: int) -> datetime:
    if category == "monthly":
        return add_months(start, quota)
    return start + {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "weekly": timedelta(weeks=1)}[category] * quota


def add_months(moment: datetime, months: int) -> datetime:
    """Given a time, return the same day and time that many months later, or the last day of a shorter month."""
    index = moment.year * 12 + moment.month - 1 + months
    year, month = divmod(index, 12)
    following = datetime(year + (month == 11), (month + 1) % 12 + 1, 1)
    last = (following - timedelta(days=1)).day
    return moment.replace(year=year, month=month + 1, day=min(moment.day, last))


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
        if any(reason in ("pinned", "uploaded") for reason in decision.shields):
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


def explain(decision: Decision, leaves: datetime | None, set_names: Callable[[str], str] = str) -> str:
    """Given a decision and when it leaves, return in words why the backup is kept, or that nothing keeps it."""
    tiers = [
        f"{rank.category} {rank.place} of {rank.quota}"
        + ("" if rank.set_name == DEFAULT_SET else f" in {set_names(rank.set_name)}")
        for rank in decision.ranks
        if rank.protects
    ]
    reasons = ([f"as {_joined(tiers)}"] if tiers else []) + [f"because it is {shield}" for shield in decision.shields]
    if not reasons:
        return "Nothing keeps it: the next cleanup deletes it."
    text = "Kept " + _joined(reasons)
    if leaves is not None and not decision.shields:
        text += f"; leaves on {leaves:%d %B %Y} with today's schedules"
    return text + "."


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


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
    found = []
    for horizon in horizons:
        coming = [
            Candidate(UUID(int=number), at, size_bytes, "scheduled", verified=True, sets=sets)
            for number, (at, sets) in enumerate(future, start=1)
            if at <= horizon
        ]
        kept = plan([*backups, *coming], quotas, horizon).kept
        found.append(Forecast(horizon, len(kept), sum(decision.backup.size_bytes for decision in kept)))
    return found
