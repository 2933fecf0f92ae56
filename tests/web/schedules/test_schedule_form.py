"""The form of a schedule: what is typed in words, errors at the fields, what is kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from urllib.parse import urlencode

import pytest

from app.models import BackupHistory, utcnow
from app.services.schedules import schedules
from tests.support.application import PASSWORD
from tests.support.browser import HTML, Browser, Page
from tests.support.scheduling import fill_slot, make_schedule

Make = Callable[..., BackupHistory]
DAILY = {"name": "Nightly", "frequency": "daily", "day_of_week": "0", "day_of_month": "1", "hour": "3", "minute": "30"}


def chosen(page: Page, name: str) -> list[str]:
    """Return the values selected in the list of that name."""
    options = page.select("select", name=name)[0].iter(HTML + "option")
    return [option.get("value", "") for option in options if "selected" in option.attrib]


def test_a_new_schedule_is_offered_daily_at_three_with_its_next_five_runs(admin: Browser) -> None:
    page = admin.get("/schedules/new")
    assert chosen(page, "frequency") == ["daily"]
    assert page.form("/schedules/new")["timezone"] == "UTC"
    assert "At 03:00" in page.text
    assert len(page.select("time")) >= 5
    assert page.select("input", name="keep_hourly")[0].get("placeholder") == "8 (global)"


def test_a_schedule_is_kept_as_it_was_typed(admin: Browser) -> None:
    admin.submit("/schedules/new", "/schedules/new", **DAILY, timezone="Europe/London", keep_daily="14")
    row = schedules.list_schedules().items[0]
    assert (row.name, row.frequency, row.hour, row.minute, row.timezone) == ("Nightly", "daily", 3, 30, "Europe/London")
    assert (row.keep_hourly, row.keep_daily, row.enabled) == (None, 14, True)
    assert "Nightly is saved" in admin.get("/schedules/").by_id("flashes")


@pytest.mark.parametrize(
    ("typed", "field", "words"),
    [
        ({"name": " "}, "name", "Give it a name"),
        ({"hour": "24"}, "hour", "less than or equal to 23"),
        ({"minute": "soon"}, "minute", "valid integer"),
        ({"timezone": "Mars/Olympus"}, "timezone", "Mars/Olympus"),
        ({"frequency": "custom", "cron_expression": "61 * * * *"}, "cron_expression", ""),
        ({"frequency": "custom", "cron_expression": ""}, "cron_expression", ""),
        ({"keep_daily": "-1"}, "keep_daily", "greater than or equal to 0"),
        ({"frequency": "yearly"}, "frequency", "valid choice"),
    ],
)
def test_what_is_wrong_is_said_at_its_field(admin: Browser, typed: dict[str, str], field: str, words: str) -> None:
    page = Page(admin.submit("/schedules/new", "/schedules/new", 422, **(DAILY | typed)))
    assert words in page.by_id(f"{field}-error")
    assert len(page.by_id(f"{field}-error")) > 10
    assert page.select("a", href=f"#{field}")
    assert schedules.list_schedules().total == 0


def test_a_field_that_the_frequency_does_not_look_at_is_not_refused(admin: Browser) -> None:
    typed = DAILY | {"frequency": "hourly", "hour": "99", "cron_expression": "nonsense"}
    admin.submit("/schedules/new", "/schedules/new", **typed)
    assert schedules.list_schedules().items[0].hour is None


def test_without_javascript_a_button_shows_the_next_runs_and_keeps_nothing(admin: Browser) -> None:
    typed = DAILY | {"frequency": "monthly", "day_of_month": "last", "step": "preview", "timezone": "Europe/Berlin"}
    page = Page(admin.submit("/schedules/new", "/schedules/new", 200, **typed))
    assert "Europe/Berlin" in page.text
    assert chosen(page, "day_of_month") == ["last"]
    assert page.form("/schedules/new")["name"] == "Nightly"
    assert schedules.list_schedules().total == 0


def test_while_typing_the_rule_is_said_in_words_or_what_is_wrong_with_it(admin: Browser) -> None:
    typed = {"frequency": "custom", "cron_expression": "15 */6 * * 1-5", "timezone": "America/New_York"}
    good = admin.get(f"/schedules/preview?{urlencode(typed)}", fragment=True)
    assert "Monday through Friday" in good.text
    assert len(good.select("li")) == 5
    assert "UTC" in good.text
    bad = admin.get(f"/schedules/preview?{urlencode(typed | {'cron_expression': '* *'})}", fragment=True)
    assert "Cron expression:" in bad.text
    assert not bad.select("time")
    assert admin.get("/schedules/preview", fragment=True).select("time")


def test_a_schedule_is_changed_and_keeps_what_was_not(admin: Browser) -> None:
    row = make_schedule(frequency="weekly", day_of_week=3, keep_weekly=9)
    path = f"/schedules/{row.id}"
    page = admin.get(path)
    assert chosen(page, "day_of_week") == ["3"]
    assert page.form(path)["keep_weekly"] == "9"
    typed = {"frequency": "weekly", "day_of_week": "5", "day_of_month": "1", "keep_weekly": "", "enabled": None}
    assert Page(admin.submit(page, path, 422, **typed)).by_id("password-error")
    answer = admin.submit(page, path, **typed, password=PASSWORD)
    assert answer.location == "/schedules/"
    after = schedules.get(row.id)
    assert (after.day_of_week, after.hour, after.keep_weekly, after.enabled) == (5, 3, None, False)


def test_an_error_while_changing_leaves_the_schedule_as_it_is(admin: Browser) -> None:
    row = make_schedule()
    path = f"/schedules/{row.id}"
    page = Page(
        admin.submit(path, path, 422, frequency="daily", day_of_week="0", day_of_month="1", timezone="nowhere", name="New")
    )
    assert "nowhere" in page.by_id("timezone-error")
    assert schedules.get(row.id).name == "Nightly"


def test_an_hourly_schedule_offers_sensible_values_for_when_it_becomes_daily(admin: Browser) -> None:
    row = make_schedule(frequency="hourly", minute=20)
    filled = admin.get(f"/schedules/{row.id}").form(f"/schedules/{row.id}")
    assert (filled["hour"], filled["minute"]) == ("3", "20")


def test_changed_quotas_say_what_they_would_delete_before_they_are_saved(admin: Browser, make_row: Make) -> None:
    row = make_schedule(keep_hourly=5, keep_daily=0, keep_weekly=0, keep_monthly=0)
    now = utcnow()
    for number in range(4):
        fill_slot(row, make_row(kind="scheduled", created_at=now - timedelta(hours=number), verified_at=now))
    typed = {"frequency": "daily", "hour": "3", "timezone": "UTC", "schedule_id": str(row.id)}
    typed |= {"keep_daily": "0", "keep_weekly": "0", "keep_monthly": "0"}
    same = admin.get(f"/schedules/preview?{urlencode(typed | {'keep_hourly': '5'})}", fragment=True)
    assert "would delete" not in same.text
    fewer = admin.get(f"/schedules/preview?{urlencode(typed | {'keep_hourly': '1'})}", fragment=True)
    assert "the next cleanup would delete 3 backups" in fewer.text


def test_pages_of_schedules_are_for_admins(visitor: Browser) -> None:
    for path in ("/schedules/", "/schedules/new", "/schedules/preview"):
        assert visitor.redirected(path).startswith("/login?next=")
