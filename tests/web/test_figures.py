"""Figures and times in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.web import filters
from app.web.icons import icon
from app.web.people.safe_next import safe_next

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (None, "–"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (12_345_678, "12.3 MB"),
        (999_400, "999 kB"),
        (999_600, "1 MB"),
        (8_500_000_000, "8.5 GB"),
        (2_000_000_000_000_000_000, "2,000 PB"),
    ],
)
def test_a_size_has_three_digits_and_a_decimal_unit(size: int | None, words: str) -> None:
    assert filters.filesize(size) == words


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (timedelta(seconds=20), "just now"),
        (timedelta(seconds=59), "1 minute ago"),
        (timedelta(minutes=5), "5 minutes ago"),
        (timedelta(minutes=59, seconds=50), "1 hour ago"),
        (timedelta(hours=1), "1 hour ago"),
        (timedelta(hours=47), "1 day ago"),
        (timedelta(days=40), "1 month ago"),
        (timedelta(days=800), "2 years ago"),
        (-timedelta(hours=3), "in 3 hours"),
    ],
)
def test_a_moment_is_told_by_its_distance(distance: timedelta, words: str) -> None:
    assert filters.ago(NOW - distance, NOW) == words


def test_a_backup_that_never_was_is_never() -> None:
    assert filters.ago(None) == "never"


def test_times_are_shown_in_utc_whatever_zone_they_come_in() -> None:
    moment = datetime(2026, 1, 3, 1, 5, 6, tzinfo=timezone(timedelta(hours=2)))
    assert filters.utc(moment) == "2 Jan 2026, 23:05:06 UTC"
    assert filters.iso(moment) == "2026-01-02T23:05:06Z"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (0.01, "< 0.1 s"),
        (0.42, "0.4 s"),
        (9.96, "10 s"),
        (42, "42 s"),
        (59.6, "1 min 0 s"),
        (192, "3 min 12 s"),
        (3840, "1 h 4 min"),
    ],
)
def test_a_duration_is_shown_as_people_say_it(seconds: float | None, words: str) -> None:
    assert filters.duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "a moment left"), (9.5, "about 10 s left"), (59.4, "about 59 s left"), (100, "about 1 min 40 s left")],
)
def test_an_estimate_claims_no_tenths(seconds: float, words: str) -> None:
    assert filters.time_left(seconds) == words


def test_a_phase_without_words_of_its_own_is_shown_as_it_is() -> None:
    assert filters.phase_name("database") == "Reading the database"
    assert filters.phase_name("warming_up") == "Warming up"
    assert filters.phase_name(None) == "Waiting for a worker"


def test_an_icon_comes_from_the_wheel_and_is_hidden_from_screen_readers() -> None:
    assert 'aria-hidden="true"' in icon("archive")
    with pytest.raises(KeyError):
        icon("no-such-icon")


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "\\\\evil.example",
        "/\t/evil.example",
        "javascript:alert(1)",
        "/ok\r\nSet-Cookie: a=b",
        "backups/",
        "",
        None,
    ],
)
def test_after_login_nobody_is_sent_to_another_site(target: str | None) -> None:
    assert safe_next(target, "/home") == "/home"


def test_after_login_one_goes_where_one_wanted_to() -> None:
    assert safe_next("/backups/?page=2&kind=manual", "/home") == "/backups/?page=2&kind=manual"
