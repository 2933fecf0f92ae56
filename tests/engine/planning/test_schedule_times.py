"""When schedules run: SPEC section 3's lines on zones, daylight saving and short months."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.planning.schedule_times import ScheduleError, ScheduleRule

ZONES = ("America/New_York", "Europe/London", "Australia/Lord_Howe", "UTC", "Asia/Kolkata", "Africa/Casablanca")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def local_runs(rule: ScheduleRule, after: str, count: int) -> list[str]:
    """Return the next runs on the schedule's own wall clock."""
    return [f"{run.astimezone(ZoneInfo(rule.timezone)):%d %H:%M%z}" for run in rule.next_runs(at(after), count)]


def test_the_four_frequencies_have_the_default_cron_expressions() -> None:
    crons = {name: ScheduleRule(name).cron for name in ("hourly", "daily", "weekly", "monthly")}
    assert crons == {"hourly": "0 * * * *", "daily": "0 3 * * *", "weekly": "0 3 * * 0", "monthly": "0 3 1 * *"}


def test_all_four_are_due_at_three_on_a_sunday_the_first() -> None:
    before = at("2026-02-01T02:59:59")
    for frequency in ("hourly", "daily", "weekly", "monthly"):
        assert ScheduleRule(frequency).next_runs(before, 1) == [at("2026-02-01T03:00")]


@pytest.mark.parametrize(
    ("zone", "after", "expected"),
    [
        # Forward: 02:30 does not exist, so the first moment after it; then 02:30 again.
        ("America/New_York", "2026-03-07T12:00", ["08 03:00-0400", "09 02:30-0400"]),
        # Backward: 01:30 exists twice, but the day is run once.
        ("America/New_York", "2026-10-31T12:00", ["01 02:30-0500", "02 02:30-0500"]),
        ("Europe/London", "2026-03-28T12:00", ["29 02:30+0100", "30 02:30+0100"]),
        # Lord Howe shifts by half an hour: 02:00 becomes 02:30.
        ("Australia/Lord_Howe", "2026-10-03T00:00", ["04 02:30+1100", "05 02:30+1100"]),
    ],
)
def test_a_daily_run_at_half_past_two_where_clocks_change(zone: str, after: str, expected: list[str]) -> None:
    assert local_runs(ScheduleRule("daily", minute=30, hour=2, timezone=zone), after, 2) == expected


@pytest.mark.parametrize(
    ("zone", "hour", "minute", "after", "expected"),
    [
        ("America/New_York", 1, 30, "2026-10-31T12:00", ["01 01:30-0400", "02 01:30-0500"]),
        ("Europe/London", 1, 30, "2026-03-28T12:00", ["29 02:00+0100", "30 01:30+0100"]),
        ("Europe/London", 1, 30, "2026-10-24T12:00", ["25 01:30+0100", "26 01:30+0000"]),
        ("Australia/Lord_Howe", 2, 15, "2026-10-03T00:00", ["04 02:30+1100", "05 02:15+1100"]),
        ("Australia/Lord_Howe", 1, 45, "2026-04-04T00:00", ["05 01:45+1100", "06 01:45+1030"]),
    ],
)
def test_a_daily_run_at_a_time_that_is_skipped_or_comes_twice(
    zone: str, hour: int, minute: int, after: str, expected: list[str]
) -> None:
    assert local_runs(ScheduleRule("daily", minute=minute, hour=hour, timezone=zone), after, 2) == expected


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/London", "Australia/Lord_Howe"])
@pytest.mark.parametrize("frequency", ["daily", "weekly", "monthly"])
@pytest.mark.parametrize(("hour", "minute"), [(1, 0), (1, 30), (1, 45), (2, 0), (2, 15), (2, 30), (3, 0)])
def test_a_year_has_one_run_for_every_day_week_or_month(zone: str, frequency: str, hour: int, minute: int) -> None:
    rule = ScheduleRule(frequency, minute=minute, hour=hour, timezone=zone)
    tz = ZoneInfo(zone)
    begin, end = datetime(2026, 1, 1, tzinfo=tz), datetime(2027, 1, 1, tzinfo=tz)
    runs = [run.astimezone(tz) for run in rule.next_runs(begin - timedelta(seconds=1), 400) if run < end]
    days = [run.date() for run in runs]
    assert len(days) == len(set(days)) == {"daily": 365, "weekly": 52, "monthly": 12}[frequency]
    wrong = [run for run in runs if (run.hour, run.minute) != (hour, minute)]
    # A time that does not exist is that of one day a year at most.
    assert len(wrong) <= 1
    assert all((run.hour, run.minute) > (hour, minute) for run in wrong)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("minute", [0, 15, 30, 45])
def test_an_hourly_schedule_runs_every_real_hour_of_a_year(zone: str, minute: int) -> None:
    runs = ScheduleRule("hourly", minute=minute, timezone=zone).next_runs(at("2026-01-01T00:00"), 8760)
    gaps = {after - before for before, after in pairwise(runs)}
    shifted = {timedelta(minutes=30)} if zone == "Australia/Lord_Howe" else set()
    assert max(gaps) == timedelta(hours=1)
    assert gaps <= {timedelta(hours=1)} | shifted


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (31, ["01-31", "02-28", "03-31", "04-30", "05-31"]),
        (30, ["01-30", "02-28", "03-30", "04-30", "05-30"]),
        (29, ["01-29", "02-28", "03-29", "04-29", "05-29"]),
        (28, ["01-28", "02-28", "03-28", "04-28", "05-28"]),
        ("last", ["01-31", "02-28", "03-31", "04-30", "05-31"]),
    ],
)
def test_a_day_that_a_month_lacks_is_its_last(day: int | str, expected: list[str]) -> None:
    runs = ScheduleRule("monthly", day_of_month=day).next_runs(at("2026-01-01T00:00"), 5)
    assert [f"{run:%m-%d}" for run in runs] == expected


def test_february_of_a_leap_year_has_a_29th() -> None:
    (run,) = ScheduleRule("monthly", day_of_month=31).next_runs(at("2028-02-01T00:00"), 1)
    assert run == at("2028-02-29T03:00")


def test_of_many_missed_runs_the_last_is_made_up_for() -> None:
    rule = ScheduleRule("hourly")
    assert rule.latest_due(at("2026-01-01T00:00"), at("2026-01-01T10:30")) == at("2026-01-01T10:00")
    assert rule.latest_due(at("2026-01-01T10:00"), at("2026-01-01T10:30")) is None


def test_a_rule_untouched_for_years_is_reckoned_at_once() -> None:
    rule = ScheduleRule("custom", cron_expression="*/5 * * * *")
    assert rule.latest_due(at("2015-01-01T00:00"), at("2026-01-01T10:03")) == at("2026-01-01T10:00")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("frequency", {"frequency": "yearly"}),
        ("minute", {"frequency": "hourly", "minute": 60}),
        ("hour", {"frequency": "daily", "hour": 24}),
        ("day_of_week", {"frequency": "weekly", "day_of_week": 7}),
        ("day_of_month", {"frequency": "monthly", "day_of_month": 32}),
        ("timezone", {"frequency": "daily", "timezone": "Mars/Olympus"}),
        ("timezone", {"frequency": "daily", "timezone": "../../etc/passwd"}),
        ("cron_expression", {"frequency": "custom", "cron_expression": ""}),
        ("cron_expression", {"frequency": "custom", "cron_expression": "* * * * * *"}),
        ("cron_expression", {"frequency": "custom", "cron_expression": "61 * * * *"}),
        ("cron_expression", {"frequency": "custom", "cron_expression": "0 0 30 2 *"}),
        ("cron_expression", {"frequency": "custom", "cron_expression": "every day"}),
    ],
)
def test_nonsense_is_refused_at_its_field(field: str, values: dict[str, object]) -> None:
    with pytest.raises(ScheduleError) as caught:
        ScheduleRule(**values)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert len(str(caught.value)) > 15


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (ScheduleRule("daily", timezone="Europe/Berlin"), "At 03:00, every day (Europe/Berlin)"),
        (ScheduleRule("monthly", day_of_month=31), "At 03:00, on day 31 of the month, or its last day (UTC)"),
        (ScheduleRule("weekly", day_of_week=0), "At 03:00, only on Sunday (UTC)"),
    ],
)
def test_a_rule_can_be_said_in_words(rule: ScheduleRule, words: str) -> None:
    assert rule.in_words() == words


def test_a_leap_day_cron_is_a_date() -> None:
    rule = ScheduleRule("custom", cron_expression="0 0 29 2 *")
    assert rule.next_runs(at("2026-01-01T00:00"), 1) == [at("2028-02-29T00:00")]
    assert rule.latest_due(at("2028-02-28T00:00"), at("2028-03-01T00:00")) == at("2028-02-29T00:00")


@given(
    minutes=st.integers(0, 525600),
    zone=st.sampled_from(ZONES),
    frequency=st.sampled_from(("hourly", "daily", "weekly", "monthly")),
)
def test_runs_come_in_order_and_after_the_moment_asked_about(minutes: int, zone: str, frequency: str) -> None:
    moment = at("2026-01-01T00:00") + timedelta(minutes=minutes)
    runs = ScheduleRule(frequency, minute=30, hour=2, timezone=zone).next_runs(moment, 5)
    assert runs == sorted(set(runs))
    assert runs[0] > moment
