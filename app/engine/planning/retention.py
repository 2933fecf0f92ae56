"""Tiered retention as pure functions: which backups are kept, by which category, and when they leave.

Values in, decisions out; nothing here reads a clock, a database or a disk. A backup belongs to every category that it
qualifies for, is kept while any category of any set protects it, and can be explained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

CATEGORIES = ("hourly", "daily", "weekly", "monthly")
SAFETY_DAYS = 7
DEFAULT_SET = "default"
# Reasons beside the categories, in words that follow "because it is".
NEWEST, NEWEST_VERIFIED = "the newest backup", "the newest verified backup"
PINNED, UPLOADED, IN_USE = "pinned", "uploaded", "in use right now"
YOUNG_SAFETY = f"a safety backup younger than {SAFETY_DAYS} days"
FOR_GOOD = frozenset({PINNED, UPLOADED})
SECONDS_OF_A_DAY = 86_400
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
# A set of categories as a bit mask, and back: there may be hundreds of thousands of them.
MASK_OF = {category: 1 << bit for bit, category in enumerate(CATEGORIES)}
HOURLY = MASK_OF["hourly"]
NAMES_OF = tuple(tuple(name for name in CATEGORIES if mask & MASK_OF[name]) for mask in range(1 << len(CATEGORIES)))
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
    """A completed backup for retention. `sets` are the quota sets that it belongs to; sizes are bytes."""

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
    """A backup's place in a category of a set: 1 is the newest; up to `quota` it is protected."""

    set_name: str
    category: str
    place: int
    quota: int

    @property
    def protects(self) -> bool:
        return self.place <= self.quota


class Decision(NamedTuple):
    """The decision on a backup: kept for these reasons, or deleted because there are none."""

    backup: Candidate
    categories: tuple[str, ...]
    ranks: tuple[Rank, ...]
    shields: tuple[str, ...]

    @property
    def keep(self) -> bool:
        """Whether anything keeps the backup."""
        return bool(self.shields) or any(rank.protects for rank in self.ranks)


@dataclass(frozen=True)
class Plan:
    """The decisions on all backups, newest first."""

    decisions: tuple[Decision, ...]

    @cached_property
    def by_id(self) -> Mapping[UUID, Decision]:
        """The decisions by backup id."""
        return {decision.backup.id: decision for decision in self.decisions}

    @cached_property
    def deleted(self) -> list[Decision]:
        """The decisions on backups that nothing keeps."""
        return [decision for decision in self.decisions if not decision.keep]

    @cached_property
    def kept(self) -> list[Decision]:
        """The decisions on backups that are kept."""
        return [decision for decision in self.decisions if decision.keep]


def period_of(category: str, moment: datetime) -> int | None:
    """Return the UTC period of a time in a category, which keeps the first backup of each; None: it keeps every one.

    Days begin at 00:00, weeks on Sunday, months on the 1st.
    """
    return _period_of_day(category, _day_of(moment))


def _day_of(moment: datetime) -> int:
    """Return the day in UTC, as a proleptic ordinal."""
    return int(moment.timestamp() // SECONDS_OF_A_DAY) + EPOCH_ORDINAL


def _period_of_day(category: str, day: int) -> int | None:
    if category == "daily":
        return day
    if category == "weekly":
        return day // 7  # proleptic ordinal 1 is a Monday, so multiples of 7 are Sundays
    if category == "monthly":
        date_of_day = date.fromordinal(day)
        return date_of_day.year * 12 + date_of_day.month
    return None


def _oldest_first(backup: Candidate) -> tuple[datetime, UUID]:
    return backup.started_at, backup.id


def classify(backups: Iterable[Candidate], set_name: str) -> dict[UUID, list[str]]:
    """Return the categories of the backups that classify in this set; their order does not matter."""
    newest_first = sorted(backups, key=_oldest_first, reverse=True)
    days = [_day_of(backup.started_at) for backup in newest_first]
    return {newest_first[number].id: list(NAMES_OF[mask]) for number, mask in _members(newest_first, days, set_name)}


def _members(newest_first: Sequence[Candidate], days: Sequence[int], set_name: str) -> list[tuple[int, int]]:
    """Return the backups that classify in this set by index, oldest first, each with its categories as a mask."""
    found = []
    seen: dict[str, Any] = {}
    today = None
    for number in range(len(newest_first) - 1, -1, -1):
        backup = newest_first[number]
        if set_name not in backup.sets or not backup.classifies:
            continue
        mask, day = HOURLY, days[number]
        if day != today:  # the first of a week or a month is the first of its day, too
            today = day
            for category in CATEGORIES[1:]:
                period = _period_of_day(category, day)
                if seen.get(category) != period:
                    seen[category] = period
                    mask |= MASK_OF[category]
        found.append((number, mask))
    return found


def plan(backups: Iterable[Candidate], quotas: Mapping[str, Quotas], now: datetime) -> Plan:
    """Decide which of all completed backups are kept at `now`, by the quotas of every set that they name.

    The newest backup, the newest verified one, pinned, uploaded and used ones, and safety backups of the last seven days
    are always kept.
    """
    newest_first = sorted(backups, key=_oldest_first, reverse=True)
    days = [_day_of(backup.started_at) for backup in newest_first]
    ranks: list[tuple[Rank, ...]] = [()] * len(newest_first)
    masks = [0] * len(newest_first)
    for set_name, quota in quotas.items():
        switched_on = sum(MASK_OF[category] for category in CATEGORIES if quota.of(category) > 0)
        limits = {category: quota.of(category) for category in CATEGORIES}
        places = dict.fromkeys(CATEGORIES, 0)
        for number, mask in reversed(_members(newest_first, days, set_name)):
            mask &= switched_on
            masks[number] |= mask
            mine = []
            for category in NAMES_OF[mask]:
                places[category] += 1
                mine.append(Rank(set_name, category, places[category], limits[category]))
            ranks[number] += tuple(mine)
    shields = _shields(newest_first, now)
    return Plan(
        tuple(
            Decision(backup, NAMES_OF[mask], mine, tuple(shields.get(number, ())))
            for number, (backup, mask, mine) in enumerate(zip(newest_first, masks, ranks, strict=True))
        )
    )


def _shields(newest_first: Sequence[Candidate], now: datetime) -> dict[int, list[str]]:
    """Return what protects backups beside the categories, by index."""
    found: dict[int, list[str]] = {}
    verified = next((number for number, backup in enumerate(newest_first) if backup.verified), None)
    young = now - timedelta(days=SAFETY_DAYS)
    if newest_first:
        found[0] = [NEWEST]
    if verified is not None:
        found.setdefault(verified, []).append(NEWEST_VERIFIED)
    for number, backup in enumerate(newest_first):
        if backup.pinned:
            found.setdefault(number, []).append(PINNED)
        if backup.kind == "uploaded":
            found.setdefault(number, []).append(UPLOADED)
        if backup.in_use:
            found.setdefault(number, []).append(IN_USE)
        if backup.kind == "safety" and backup.started_at > young:
            found.setdefault(number, []).append(YOUNG_SAFETY)
    return found


def expires_at(decision: Decision, quotas: Mapping[str, Quotas]) -> datetime | None:
    """Return when the period of a backup's longest category ends, counted from its start; None: never.

    This is for display; the quotas decide.
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
    """Return the same day and time that many months later, or the last day of a shorter month."""
    index = moment.year * 12 + moment.month - 1 + months
    year, month = divmod(index, 12)
    following = date(year + (month == 11), (month + 1) % 12 + 1, 1)
    last = (following - timedelta(days=1)).day
    return moment.replace(year=year, month=month + 1, day=min(moment.day, last))


def explain(decision: Decision, leaves: datetime | None, set_names: Callable[[str], str] = str) -> str:
    """Explain in words why a backup is kept and when it leaves, or that nothing keeps it."""
    tiers = [
        f"{rank.category} {rank.place} of {rank.quota}"
        + ("" if rank.set_name == DEFAULT_SET else f" in {set_names(rank.set_name)}")
        for rank in decision.ranks
        if rank.protects
    ]
    reasons = [f"as {_joined(tiers)}"] if tiers else []
    if decision.shields:
        reasons.append(f"because it is {_joined(decision.shields)}")
    if not reasons:
        return "Nothing keeps it: the next cleanup deletes it."
    text = "Kept " + ", and ".join(reasons)
    if leaves is not None and not decision.shields:
        text += f"; leaves on {leaves.day} {leaves:%b %Y} with today's schedules"
    return text + "."


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
