"""Compute when a schedule runs: cron expressions in time zones, with daylight saving and short months as people expect.

An hourly schedule runs every real hour. A daily, weekly or monthly one runs once a day at its wall-clock time, or at the
first moment after it where that time does not exist. "The 31st" means the last day in shorter months.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cron_descriptor import (  # type: ignore[import-untyped]
    CasingTypeEnum,
    ExpressionDescriptor,
    Options,
)
from cronsim import CronSim, CronSimError

FREQUENCIES = ("hourly", "daily", "weekly", "monthly", "custom")
LAST_DAY = "last"
LOOK_BACK = timedelta(days=400)
HOUR = timedelta(hours=1)


class ScheduleError(ValueError):
    """An invalid schedule: `field` names the field, the text says what to do."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


@dataclass(frozen=True)
class ScheduleRule:
    """When to run. `day_of_week`: 0 is Sunday; `day_of_month`: 1 to 31 or "last". Raise ScheduleError if invalid."""

    frequency: str
    minute: int = 0
    hour: int = 3
    day_of_week: int = 0
    day_of_month: int | str = 1
    cron_expression: str = ""
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if self.frequency not in FREQUENCIES:
            raise ScheduleError("frequency", f"Choose one of {', '.join(FREQUENCIES)}.")
        for field, value, low, high in (
            ("minute", self.minute, 0, 59),
            ("hour", self.hour, 0, 23),
            ("day_of_week", self.day_of_week, 0, 6),
        ):
            if not low <= value <= high:
                raise ScheduleError(field, f"Give a number from {low} to {high}.")
        if self.day_of_month != LAST_DAY and not (isinstance(self.day_of_month, int) and 1 <= self.day_of_month <= 31):
            raise ScheduleError("day_of_month", 'Give a day from 1 to 31, or "last".')
        zone(self.timezone)
        try:
            runs = CronSim(self.cron, datetime.now(UTC))
            next(runs)
        except (CronSimError, StopIteration) as error:
            raise ScheduleError(
                "cron_expression", f"{self.cron_expression!r} is not a cron expression with a date in it ({error})."
            ) from error

    @property
    def cron(self) -> str:
        """The five-field cron expression; days past the 28th of a month are narrowed by `_is_wanted_day`."""
        if self.frequency == "hourly":
            return f"{self.minute} * * * *"
        if self.frequency == "daily":
            return f"{self.minute} {self.hour} * * *"
        if self.frequency == "weekly":
            return f"{self.minute} {self.hour} * * {self.day_of_week}"
        if self.frequency == "monthly":
            day = "L" if self.day_of_month == LAST_DAY else self.day_of_month
            return f"{self.minute} {self.hour} {'28-31' if isinstance(day, int) and day > 28 else day} * *"
        if len(self.cron_expression.split()) != 5:
            raise ScheduleError("cron_expression", "Give five fields: minute, hour, day of month, month, day of week.")
        return self.cron_expression

    def runs_after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the runs after an aware time in order, in UTC."""
        if self.frequency == "hourly":
            yield from self._hourly_runs_after(moment.astimezone(UTC))
            return
        for run in CronSim(self.cron, moment.astimezone(zone(self.timezone))):
            if self._is_wanted_day(run):
                yield run.astimezone(UTC)

    def _hourly_runs_after(self, moment: datetime) -> Iterator[datetime]:
        """Yield a run for every real hour, even if a zone shifts by half an hour and skips or moves the minute."""
        local = zone(self.timezone)
        run = next(CronSim(self.cron, (moment - 3 * HOUR).astimezone(local))).astimezone(UTC)
        while True:
            if run > moment:
                yield run
            following = run + HOUR
            if following.astimezone(local).minute != self.minute:
                regular = next(CronSim(self.cron, run.astimezone(local))).astimezone(UTC)
                following = min(following, regular)
            run = following

    def next_runs(self, moment: datetime, count: int) -> list[datetime]:
        """Return the next runs after an aware time, in UTC."""
        return list(islice(self.runs_after(moment), count))

    def latest_due(self, since: datetime, now: datetime) -> datetime | None:
        """Return the last run after `since` and not after `now`: any number of missed runs makes one catch-up run."""
        since = max(since, now - LOOK_BACK)
        latest = None
        for run in self.runs_after(since):
            if run > now:
                break
            latest = run
        return latest

    def _is_wanted_day(self, run: datetime) -> bool:
        if self.frequency != "monthly" or not isinstance(self.day_of_month, int) or self.day_of_month <= 28:
            return True
        last = (run.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)
        return run.day == min(self.day_of_month, last.day)

    def in_words(self) -> str:
        """Return the rule in words, such as "At 03:00, every day (Europe/Berlin)"."""
        if self.frequency == "monthly" and isinstance(self.day_of_month, int) and self.day_of_month > 28:
            text = f"At {self.hour:02d}:{self.minute:02d}, on day {self.day_of_month} of the month, or its last day"
        else:
            options = Options()
            options.use_24hour_time_format = True
            options.casing_type = CasingTypeEnum.Sentence
            options.verbose = True
            text = ExpressionDescriptor(self.cron, options).get_description()
        return f"{text} ({self.timezone})"


@cache
def _known_zones() -> frozenset[str]:
    """Return the names of all zones, cached, since asking the system takes some milliseconds."""
    return frozenset(available_timezones())


def zone(name: str) -> ZoneInfo:
    """Return the time zone of that name. Raise ScheduleError if there is none."""
    try:
        if name not in _known_zones():
            raise KeyError(name)
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, ZoneInfoNotFoundError) as error:
        raise ScheduleError(
            "timezone", f"There is no time zone {name!r}; use a name such as Europe/Berlin or UTC."
        ) from error
