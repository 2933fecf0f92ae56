"""The retention chart: a line per category, with time running to the right and today at its end. Positions are percentages
of the width, so that one picture fits a phone and a wide screen with the same font size."""

from dataclasses import dataclass

from app.services.retention.timeline import BINS, OTHERWISE, STRETCHES, Lane, Spot, Timeline
from app.web.filters import utc_day

LANE_HEIGHT, TOP, BOTTOM = 46, 26, 8
# Space for half a mark at both ends, in percent.
MARGIN = 1.5
NAMES = {
    "hourly": "Hourly",
    "daily": "Daily",
    "weekly": "Weekly",
    "monthly": "Monthly",
    OTHERWISE: "Other reasons",
}
TICKS = ("now", "1 day", "1 week", "1 month", "1 year", "older")


@dataclass(frozen=True)
class Mark:
    """`x` is the centre, and it and `width` are in percent; one backup is a dot, several are a block."""

    x: float
    width: float
    y: int
    backups: int
    title: str
    leaves_next: bool


@dataclass(frozen=True)
class Row:
    y: int
    label: str
    marks: list[Mark]


@dataclass(frozen=True)
class Tick:
    x: float
    text: str
    anchor: str


@dataclass(frozen=True)
class Picture:
    height: int
    rows: list[Row]
    ticks: list[Tick]


def picture(timeline: Timeline) -> Picture:
    """Lay out the chart. A category that is off and keeps nothing has no line."""
    lanes = [lane for lane in timeline.lanes if lane.kept or lane.quota]
    rows = [_row(lane, TOP + number * LANE_HEIGHT, timeline.stretches) for number, lane in enumerate(lanes)]
    ticks = [_tick(number, timeline.stretches) for number in range(timeline.stretches + 1)]
    return Picture(TOP + len(lanes) * LANE_HEIGHT + BOTTOM, rows, ticks)


def kept_words(lane: Lane) -> str:
    """Return how much of a category's quota is used: "3 of 7", or the number where there is no single quota."""
    return f"{lane.kept:,}" if lane.quota is None else f"{lane.kept:,} of {lane.quota:,}"


def _across(place: float, stretches: int) -> float:
    return round(100 - MARGIN - (100 - 2 * MARGIN) * min(place, stretches) / stretches, 2)


def _row(lane: Lane, y: int, stretches: int) -> Row:
    width = round((100 - 2 * MARGIN) / (stretches * BINS), 2)
    marks = [_mark(spot, y + 27, width, stretches) for spot in lane.spots]
    return Row(y, f"{NAMES[lane.name]} · {kept_words(lane)}", marks)


def _mark(spot: Spot, y: int, width: float, stretches: int) -> Mark:
    title = f"Backup of {utc_day(spot.newest)}"
    if spot.backups > 1:
        title = f"{spot.backups:,} backups, {utc_day(spot.oldest)} to {utc_day(spot.newest)}"
    if spot.leaves_next:
        title += "; among the next to be deleted"
    return Mark(_across(spot.place, stretches), width, y, spot.backups, title, spot.leaves_next)


def _tick(number: int, stretches: int) -> Tick:
    text = TICKS[number] if number <= len(STRETCHES) else TICKS[-1]
    anchor = "end" if number == 0 else "start" if number == stretches else "middle"
    return Tick(_across(number, stretches), text, anchor)
