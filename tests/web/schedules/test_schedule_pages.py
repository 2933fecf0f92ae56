"""Schedules: the list, on and off, run now, delete."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from apiflask import APIFlask

from app.extensions import db
from app.models import BackupHistory, utcnow
from app.services.audit import audit
from app.services.backups import backups
from app.services.schedules import schedules
from tests.support.application import TESTER
from tests.support.browser import Browser, Page
from tests.support.scheduling import fill_slot, make_schedule

Make = Callable[..., BackupHistory]


def test_without_schedules_the_page_says_what_that_means(admin: Browser) -> None:
    page = admin.get("/schedules/")
    assert "backups are only made manually" in page.text
    assert page.select("a", href="/schedules/new")


def test_the_list_says_when_each_runs_what_it_keeps_and_how_the_last_run_went(admin: Browser, make_row: Make) -> None:
    own = make_schedule("Berlin", timezone="Europe/Berlin", keep_daily=14)
    make_schedule("Off", enabled=False)
    backup = make_row(kind="scheduled")
    fill_slot(own, backup)
    page = admin.get("/schedules/")
    for expected in ("At 03:00", "Europe/Berlin", "14 daily (its own quotas)", "global quotas", "Completed"):
        assert expected in page.text
    assert "none while it is off" in page.text
    assert page.select("a", href=f"/backups/{backup.id}")
    assert [switch.get("aria-checked") for switch in page.select("button", role="switch")] == ["true", "false"]


def test_an_overdue_schedule_is_marked(admin: Browser) -> None:
    row = make_schedule()
    row.next_run_at = utcnow() - timedelta(hours=5)
    db.session.commit()
    page = admin.get("/schedules/")
    assert "Overdue since" in page.text
    assert "Overdue: Nightly" in page.by_id("health")


def test_the_switch_turns_a_schedule_off_and_on(admin: Browser) -> None:
    row = make_schedule()
    make_schedule("Other")
    action = f"/schedules/{row.id}/toggle"
    admin.submit("/schedules/", action)
    assert schedules.get(row.id).enabled is False
    page = admin.get("/schedules/")
    assert "makes no backups until it is switched on again" in page.by_id("flashes")
    admin.submit(page, action)
    after = schedules.get(row.id)
    assert after.enabled
    assert after.next_run_at is not None
    assert audit.list_entries(action="schedule.enabled").total == 1


def test_turning_the_last_schedule_off_warns(admin: Browser) -> None:
    row = make_schedule()
    admin.submit("/schedules/", f"/schedules/{row.id}/toggle")
    assert "no backup runs automatically now" in admin.get("/schedules/").by_id("flashes")


def test_run_now_queues_a_backup_and_goes_to_its_page(admin: Browser) -> None:
    row = make_schedule()
    answer = admin.submit("/schedules/", f"/schedules/{row.id}/run")
    backup = backups.list_backups().items[0]
    assert answer.location == f"/backups/{backup.id}"
    page = admin.get(answer.location)
    assert "Nightly" in page.by_id("facts")
    assert page.select("a", href=f"/schedules/{row.id}")


def test_a_second_run_now_leads_to_the_one_under_way(admin: Browser) -> None:
    row = make_schedule()
    page = admin.get("/schedules/")
    first = admin.submit(page, f"/schedules/{row.id}/run").location
    second = admin.submit(page, f"/schedules/{row.id}/run").location
    assert first == second
    assert "already queued" in admin.get(second or "").by_id("flashes")
    assert backups.list_backups().total == 1


def test_deleting_says_what_goes_and_what_remains(admin: Browser, make_row: Make) -> None:
    row = make_schedule(keep_daily=3)
    fill_slot(row, make_row(kind="scheduled"))
    action = f"/schedules/{row.id}/delete"
    page = admin.get(action)
    for expected in (
        "No other schedule is enabled",
        "its 1 backup, under its last quotas: 3 daily",
        "switch it off instead",
    ):
        assert expected in page.text
    admin.submit(page, action)
    assert schedules.list_schedules().total == 0
    assert backups.list_backups().total == 1
    assert "Nightly is deleted" in admin.get("/schedules/").by_id("flashes")


def test_a_backup_names_every_schedule_that_it_fills_deleted_ones_too(admin: Browser, make_row: Make) -> None:
    backup = make_row(kind="scheduled")
    daily, weekly = make_schedule("Daily"), make_schedule("Weekly", frequency="weekly")
    fill_slot(daily, backup)
    fill_slot(weekly, backup)
    schedules.delete(TESTER, weekly.id)
    words = admin.get(f"/backups/{backup.id}").by_id("facts")
    assert "Made for" in words
    assert "Daily due" in words
    assert "Weekly (deleted)" in words


@pytest.mark.parametrize("path", ["", "/delete"])
def test_a_schedule_that_is_not_there_is_said_to_be_gone(admin: Browser, path: str) -> None:
    assert "may have been deleted" in admin.get(f"/schedules/{uuid4()}{path}", 404).text
    row = make_schedule()
    schedules.delete(TESTER, row.id)
    admin.get(f"/schedules/{row.id}{path}", 404)


def test_a_forged_switch_is_refused(admin: Browser, app: APIFlask) -> None:
    row = make_schedule()
    answer = admin.open("POST", f"/schedules/{row.id}/toggle", data={"enabled": "no"})
    assert answer.status_code == 400
    assert Page(answer).text
    assert schedules.get(row.id).enabled
