"""Storage over time: the space that archives used until today, and the forecast. The area is drawn in a box of 1000 × 1000
that is stretched to the picture; everything else is placed in percent."""

from dataclasses import dataclass
from datetime import date, timedelta

from app.engine.planning.forecast import Forecast
from app.services.monitoring.storage_history import Stored
from app.web.filters import filesize

BOX = 1000
LINES = 4
# At least this much of the future is shown; otherwise as much as of the past.
LEAST_AHEAD = timedelta(days=30)
MONTHS_NAMED = 6


@dataclass(frozen=True)
class Mark:
    """A label at a place in percent, from the left or from the top."""

    at: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Line:
    """A line of the table next to the picture."""

    day: date
    backups: int
    bytes: int
    ahead: bool


@dataclass(frozen=True)
class Storage:
    """The picture: paths in the box; `now` in percent from the left."""

    past: str
    area: str
    ahead: str
    now: float
    levels: list[Mark]
    months: list[Mark]
    lines: list[Line]
    summary: str


def storage(history: list[Stored], forecast: list[Forecast]) -> Storage | None:
    """Lay out the picture, or return None if there never was a backup."""
    if not history or not any(stored.bytes for stored in history):
        return None
    first, today = history[0].day, history[-1].day
    coming = [entry for entry in forecast if entry.at.date() - today <= max(LEAST_AHEAD, today - first)]
    last = coming[-1].at.date() if coming else today
    span = max(1, (last - first).days)
    step = _step(max([stored.bytes for stored in history] + [entry.bytes for entry in coming]))
    top = step * LINES

    def x(day: date) -> float:
        return round(BOX * (day - first).days / span, 1)

    def y(size: int) -> float:
        return round(BOX - BOX * size / top, 1)

    past = f"M0 {y(history[0].bytes)}" + "".join(f"H{x(stored.day)}V{y(stored.bytes)}" for stored in history[1:])
    ahead = f"M{x(today)} {y(history[-1].bytes)}" + "".join(f"L{x(entry.at.date())} {y(entry.bytes)}" for entry in coming)
    return Storage(
        past=past,
        area=f"{past}V{BOX}H0Z",
        ahead=ahead if coming else "",
        now=x(today) / 10,
        levels=[Mark(100 - 100 * number / LINES, filesize(step * number)) for number in range(1, LINES + 1)],
        months=_months(first, last),
        lines=_lines(history, forecast),
        summary=_summary(history, coming),
    )


def _step(largest: int) -> int:
    """Return a round number of bytes such that LINES steps reach the largest value."""
    step = 1
    while True:
        for factor in (1, 2, 2.5, 5):
            if step * factor * LINES >= largest and (step > 1 or factor != 2.5):
                return int(step * factor)
        step *= 10


def _months(first: date, last: date) -> list[Mark]:
    """Label the first days of some months, or both ends of a short period."""
    span = max(1, (last - first).days)
    firsts = []
    day = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    while day <= last:
        firsts.append(day)
        day = date(day.year + day.month // 12, day.month % 12 + 1, 1)
    if len(firsts) < 3:
        return [Mark(0, f"{first.day} {first:%b}", "start"), Mark(100, f"{last.day} {last:%b}", "end")]
    every = -(-len(firsts) // MONTHS_NAMED)
    places = [(100 * (day - first).days / span, day) for day in firsts[::every]]
    return [Mark(round(at, 2), f"{day:%b ’%y}") for at, day in places if 4 < at < 96]


def _lines(history: list[Stored], forecast: list[Forecast]) -> list[Line]:
    """List the forecast, then the last figure of each month, newest first."""
    of_month = {(stored.day.year, stored.day.month): stored for stored in history}
    past = [Line(stored.day, stored.backups, stored.bytes, False) for stored in of_month.values()]
    ahead = [Line(entry.at.date(), entry.backups, entry.bytes, True) for entry in forecast]
    return (past + ahead)[::-1]


def _summary(history: list[Stored], coming: list[Forecast]) -> str:
    text = f"{filesize(history[-1].bytes)} in {history[-1].backups:,} backups today"
    before = history[0]
    if before.bytes:
        text = f"{filesize(before.bytes)} on {before.day.day} {before.day:%B %Y}, {text}"
    if coming:
        text += f", about {filesize(coming[-1].bytes)} in {(coming[-1].at.date() - history[-1].day).days} days"
    return text + "."
