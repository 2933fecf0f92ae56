"""The heat map of the last twelve months: a column per week, a cell per day, a letter on each day with a problem."""

from dataclasses import dataclass
from datetime import date, timedelta

from app.services.monitoring.calendar import Day

PITCH, SIZE = 17, 14
LEFT, TOP = 34, 20
WEEKDAYS = ((0, "Mon"), (2, "Wed"), (4, "Fri"))
# A month is labelled only where the label fits.
ROOM_FOR_A_NAME = 2
LETTERS = {"failed": "F", "missed": "M", "warned": "!"}
LISTED = 30


@dataclass(frozen=True)
class Cell:
    x: int
    y: int
    state: str
    letter: str
    title: str


@dataclass(frozen=True)
class Label:
    x: int
    y: int
    text: str


@dataclass(frozen=True)
class Month:
    """The number of days of a month by state."""

    name: str
    done: int
    warned: int
    failed: int
    missed: int


@dataclass(frozen=True)
class Trouble:
    """A day with a problem, in words."""

    day: date
    words: str


@dataclass(frozen=True)
class Calendar:
    width: int
    height: int
    cells: list[Cell]
    months: list[Label]
    weekdays: list[Label]
    summary: str
    by_month: list[Month]
    troubles: list[Trouble]
    more_troubles: int


def calendar(days: list[Day]) -> Calendar:
    """Lay out the heat map of a year's days, oldest first."""
    first = days[0].day
    monday = first - timedelta(days=first.weekday())
    cells = [_cell(day, (day.day - monday).days // 7) for day in days]
    weeks = (days[-1].day - monday).days // 7 + 1
    troubles = [Trouble(day.day, words(day)) for day in reversed(days) if day.state in LETTERS]
    return Calendar(
        width=LEFT + weeks * PITCH,
        height=TOP + 7 * PITCH,
        cells=cells,
        months=_months(first, weeks, monday),
        weekdays=[Label(0, TOP + row * PITCH + SIZE - 3, name) for row, name in WEEKDAYS],
        summary=_summary(days),
        by_month=_by_month(days),
        troubles=troubles[:LISTED],
        more_troubles=max(0, len(troubles) - LISTED),
    )


def words(day: Day) -> str:
    """Summarise the backups of a day: "2 done, 1 failed"."""
    parts = (
        (day.done, "done"),
        (day.warned, "with warnings"),
        (day.failed, "failed"),
        (day.missed, "missed"),
    )
    return ", ".join(f"{number:,} {word}" for number, word in parts if number) or "no backup"


def _cell(day: Day, week: int) -> Cell:
    x, y = LEFT + week * PITCH, TOP + day.day.weekday() * PITCH
    title = f"{day.day:%a} {day.day.day} {day.day:%b %Y}: {words(day)}"
    return Cell(x, y, day.state, LETTERS.get(day.state, ""), title)


def _months(first: date, weeks: int, monday: date) -> list[Label]:
    found: list[Label] = []
    known = None
    for week in range(weeks):
        day = max(first, monday + timedelta(days=7 * week))
        if day.month != known and week <= weeks - ROOM_FOR_A_NAME:
            if found and found[-1].x > LEFT + (week - ROOM_FOR_A_NAME - 1) * PITCH:
                found.pop()
            found.append(Label(LEFT + week * PITCH, TOP - 8, f"{day:%b}"))
        known = day.month
    return found


def _summary(days: list[Day]) -> str:
    of_state = [day.state for day in days]
    parts = (
        ("done", "with backups and no trouble"),
        ("warned", "with warnings"),
        ("failed", "with a failed backup"),
        ("missed", "on which a backup is missing"),
        ("none", "without backups"),
    )
    counted = [(of_state.count(state), text) for state, text in parts]
    return ", ".join(f"{number} {'day' if number == 1 else 'days'} {text}" for number, text in counted if number) + "."


def _by_month(days: list[Day]) -> list[Month]:
    """Count by month, newest first, without the months before the first backup."""
    of_month: dict[tuple[int, int], list[Day]] = {}
    for day in days:
        of_month.setdefault((day.day.year, day.day.month), []).append(day)
    found = [
        Month(
            f"{members[0].day:%B %Y}",
            sum(day.done for day in members),
            sum(day.warned for day in members),
            sum(day.failed for day in members),
            sum(day.missed for day in members),
        )
        for members in of_month.values()
    ]
    while found and not (found[0].done or found[0].warned or found[0].failed or found[0].missed):
        found.pop(0)
    return found[::-1]
