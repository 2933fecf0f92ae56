"""Where the marks of the pictures go and what they say: no servers needed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from app.engine.planning.forecast import Forecast
from app.services.monitoring.calendar import Day
from app.services.monitoring.storage_history import Stored
from app.services.retention.timeline import Lane, Spot, Timeline, place_of
from app.web.charts.calendar import LEFT, calendar, words
from app.web.charts.storage import storage
from app.web.charts.timeline import picture

TODAY = date(2026, 3, 5)
NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)


def year(**of_day: Day) -> list[Day]:
    """Return a year up to today from days named by their distance (`d3`: three days ago)."""
    known = {int(name[1:]): day for name, day in of_day.items()}
    days = [TODAY - timedelta(days=ago) for ago in range(365, -1, -1)]
    found = [Day(day) for day in days]
    for ago, day in known.items():
        found[365 - ago] = Day(TODAY - timedelta(days=ago), day.done, day.warned, day.failed, day.missed)
    return found


def day(done: int = 0, warned: int = 0, failed: int = 0, missed: int = 0) -> Day:
    return Day(TODAY, done, warned, failed, missed)


@pytest.mark.parametrize(
    ("given", "state", "letter"),
    [
        (day(), "none", ""),
        (day(done=3), "done", ""),
        (day(done=3, warned=1), "warned", "!"),
        (day(done=3, warned=1, missed=1), "missed", "M"),
        (day(done=3, missed=1, failed=1), "failed", "F"),
    ],
)
def test_a_day_shows_the_worst_that_happened_by_colour_and_letter(given: Day, state: str, letter: str) -> None:
    cell = calendar(year(d0=given)).cells[-1]
    assert (cell.state, cell.letter) == (state, letter)


def test_each_day_has_a_place_of_its_own_and_says_what_it_is() -> None:
    found = calendar(year(d0=day(done=2, failed=1)))
    assert len(found.cells) == 366
    assert len({(cell.x, cell.y) for cell in found.cells}) == 366
    assert max(cell.x for cell in found.cells) + 14 <= found.width
    assert max(cell.y for cell in found.cells) + 14 <= found.height
    assert found.cells[-1].title == "Thu 5 Mar 2026: 2 done, 1 failed"
    assert found.cells[0].title.endswith("no backup")


def test_the_names_of_the_months_do_not_touch() -> None:
    for shift in range(0, 365, 5):
        days = [Day(entry.day - timedelta(days=shift)) for entry in year()]
        names = calendar(days).months
        assert len(names) >= 11
        assert names[0].x >= LEFT
        assert all(later.x - earlier.x >= 30 for earlier, later in pairwise(names))


def test_months_before_the_first_backup_are_left_out_of_the_table() -> None:
    found = calendar(year(d40=day(done=1), d1=day(done=4, warned=1)))
    assert [month.name for month in found.by_month] == ["March 2026", "February 2026", "January 2026"]
    assert (found.by_month[0].done, found.by_month[0].warned, found.by_month[2].done) == (4, 1, 1)
    assert calendar(year()).by_month == []


def test_days_with_trouble_are_listed_newest_first_and_no_more_than_can_be_read() -> None:
    found = calendar(year(**{f"d{ago}": day(failed=1) for ago in range(50)}))
    assert found.troubles[0].day == TODAY
    assert (len(found.troubles), found.more_troubles) == (30, 20)
    assert found.summary == "50 days with a failed backup, 316 days without backups."


def test_a_day_in_words() -> None:
    assert words(day()) == "no backup"
    assert words(day(done=1234, warned=1, failed=2, missed=3)) == "1,234 done, 1 with warnings, 2 failed, 3 missed"


def test_storage_without_any_backup_is_no_picture() -> None:
    assert storage([], []) is None
    assert storage([Stored(TODAY, 0, 0)], []) is None


def test_storage_grows_in_steps_up_to_today_and_goes_on_as_forecast() -> None:
    history = [
        Stored(TODAY - timedelta(days=30), 1, 500),
        Stored(TODAY - timedelta(days=15), 2, 1000),
        Stored(TODAY, 2, 1000),
    ]
    ahead = [Forecast(NOW + timedelta(days=days), 4, size) for days, size in ((30, 2000), (90, 9000), (365, 99_000))]
    found = storage(history, ahead)
    assert found is not None
    assert found.now == 50.0
    assert [level.text for level in found.levels] == ["500 B", "1 kB", "1.5 kB", "2 kB"]
    assert found.past == "M0 750.0H250.0V500.0H500.0V500.0"
    assert found.ahead == "M500.0 500.0L1000.0 0.0"
    assert [line.bytes for line in found.lines] == [99_000, 9000, 2000, 1000, 1000]
    assert found.summary == "500 B on 3 February 2026, 1 kB in 2 backups today, about 2 kB in 30 days."


def test_a_year_of_storage_shows_a_year_ahead() -> None:
    history = [Stored(TODAY - timedelta(days=365), 1, 10**9), Stored(TODAY, 9, 3 * 10**9)]
    ahead = [Forecast(NOW + timedelta(days=days), 9, 3 * 10**9) for days in (30, 90, 365)]
    found = storage(history, ahead)
    assert found is not None
    assert found.now == 50.0
    assert found.ahead.count("L") == 3
    assert 3 <= len(found.months) <= 7


@pytest.mark.parametrize("size", [1, 19, 999, 12_345_678, 10**12, 7 * 10**15])
def test_the_largest_size_fits_below_the_top_line(size: int) -> None:
    found = storage([Stored(TODAY - timedelta(days=1), 0, 0), Stored(TODAY, 1, size)], [])
    assert found is not None
    top = float(found.past.rpartition("V")[2])
    assert 0 <= top <= 750


def spot(place: float, backups: int = 1, leaves: bool = False) -> Spot:
    return Spot(place, backups, NOW, NOW - timedelta(days=2), leaves)


def test_the_timeline_has_a_line_for_each_tier_that_is_on_and_time_goes_to_the_right() -> None:
    lanes = [
        Lane("hourly", 3, 8, [spot(0.02), spot(0.5), spot(1.5, 9)]),
        Lane("daily", 0, 7, []),
        Lane("weekly", 0, 0, []),
        Lane("monthly", 1, None, [spot(1.9, leaves=True)]),
    ]
    found = picture(Timeline(lanes, 2, 4, 100, 0, 0, 0, [], []))
    assert [row.label for row in found.rows] == ["Hourly · 3 of 8", "Daily · 0 of 7", "Monthly · 1"]
    xs = [mark.x for mark in found.rows[0].marks]
    assert xs == sorted(xs, reverse=True)
    assert all(0 <= x <= 100 for x in xs)
    assert found.rows[0].marks[2].title == "9 backups, 3 Mar 2026 to 5 Mar 2026"
    assert found.rows[2].marks[0].title.endswith("among the next to be deleted")
    assert [tick.text for tick in found.ticks] == ["now", "1 day", "1 week"]


def test_older_backups_lie_further_to_the_left_however_old_they_are() -> None:
    ages = [timedelta(hours=hours) for hours in (0, 1, 23, 25, 24 * 8, 24 * 32, 24 * 400)]
    places = [place_of(age) for age in ages]
    assert places == sorted(places)
    assert places[0] == 0
    assert place_of(timedelta(days=7)) == 2
    assert place_of(timedelta(days=9999)) == 4.5
    assert place_of(timedelta(minutes=-5)) == 0
