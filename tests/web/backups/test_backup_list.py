"""The list of backups, which is the start page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4
from xml.etree.ElementTree import Element

from app.extensions import db
from app.models import BackupHistory
from app.services.backups import backups
from tests.support.browser import Browser, Page
from tests.support.scheduling import schedule, tick

Make = Callable[..., BackupHistory]


def test_without_backups_the_page_says_what_to_do(admin: Browser) -> None:
    page = admin.get("/backups/")
    assert "No backups yet" in page.text
    assert "Nothing could be restored today" in page.by_id("backups")
    assert page.select("a", href="/backups/upload")
    assert page.form("/backups/").keys() >= {"csrf_token", "note"}


def test_the_list_shows_status_warnings_pin_note_and_size(admin: Browser, make_row: Make) -> None:
    make_row(pinned=True, note="Before the <upgrade>", warnings=["one", "two"], size_bytes=12_345_678)
    make_row("failed")
    words = admin.get("/backups/").by_id("backups")
    for expected in ("Completed", "2 warnings", "Pinned", "Before the <upgrade>", "12.3 MB", "1 min 15 s", "Failed"):
        assert expected in words


def test_each_backup_says_as_what_it_is_kept_and_when_it_expires(admin: Browser, make_row: Make) -> None:
    make_row(categories=["hourly", "daily"], expires_at=datetime(2027, 3, 4, 5, 6, tzinfo=UTC))
    make_row(pinned=True)
    make_row("failed")
    page = admin.get("/backups/")
    kept = [cell_of(row, "Kept as") for row in page.select("tr")[1:]]
    expire = [cell_of(row, "Expires") for row in page.select("tr")[1:]]
    assert kept == ["hourly, daily", "pinned", "–"]
    assert expire == ["4 Mar 2027", "never", "–"]


def cell_of(row: Element, label: str) -> str:
    """Return the words of a row's cell in a column."""
    (cell,) = [cell for cell in row.iter() if cell.get("data-label") == label]
    return " ".join("".join(cell.itertext()).split())


def test_the_list_is_filtered_by_text_and_by_days(admin: Browser, make_row: Make) -> None:
    make_row(note="Before the 100% upgrade", created_at=datetime(2026, 5, 1, 23, 59, 59, tzinfo=UTC))
    make_row(created_at=datetime(2026, 5, 2, tzinfo=UTC))
    make_row(created_at=datetime(2026, 5, 3, tzinfo=UTC))
    for query, number in {
        "text=the+100%25+UP": 1,
        "text=_backup_2026": 3,
        "text=100_": 0,
        "text=%00": 3,
        "since=2026-05-02": 2,
        "until=2026-05-01": 1,
        "since=2026-05-02&until=2026-05-02": 1,
        "until=9999-12-31": 3,
        "since=0001-01-01": 3,
        "since=yesterday": 3,
        "schedule=nonsense": 3,
    }.items():
        assert f"{number or 'no'} backup" in admin.get(f"/backups/?{query}").by_id("backups"), query


def test_a_backup_that_fills_the_slots_of_two_schedules_is_found_under_both(admin: Browser) -> None:
    now = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)
    daily, weekly = schedule("daily", now, name="Every night"), schedule("weekly", now, name="On Sundays")
    (backup_id,) = tick(datetime(2026, 3, 1, 3, 0, tzinfo=UTC))
    for each in (daily, weekly):
        page = admin.get(f"/backups/?schedule={each.id}")
        assert page.select("a", href=f"/backups/{backup_id}")
        assert "Every night, On Sundays" in page.by_id("backups")
        assert backups.list_backups(schedule_id=each.id).total == 1
    assert "No backup matches" in admin.get(f"/backups/?schedule={uuid4()}").text
    assert page.select("details", open="")


def test_the_list_is_filtered_by_status_and_kind(admin: Browser, make_row: Make) -> None:
    make_row("failed")
    make_row(kind="uploaded")
    assert "1 backup" in admin.get("/backups/?status=failed").by_id("backups")
    assert "Completed" not in admin.get("/backups/?status=failed").select("tbody")[0].itertext()
    assert "1 backup" in admin.get("/backups/?kind=uploaded").by_id("backups")
    assert "No backup matches" in admin.get("/backups/?kind=safety").text
    assert "2 backups" in admin.get("/backups/?kind=nonsense&status=").by_id("backups")


def test_the_list_goes_on_on_further_pages_and_keeps_the_filter(admin: Browser, make_row: Make) -> None:
    for _ in range(26):
        make_row("cancelled")
    first = admin.get("/backups/?status=cancelled")
    assert len(first.select("tr")) == 26
    following = first.select("a", rel="next")[0].get("href", "")
    assert "status=cancelled" in following
    second = admin.get(following)
    assert len(second.select("tr")) == 2
    assert second.select("a", rel="prev")
    assert not second.select("a", rel="next")
    assert "This page is empty" in admin.get("/backups/?page=9").text


def test_the_button_starts_a_backup_with_its_note_and_leads_to_its_page(admin: Browser) -> None:
    answer = admin.submit("/backups/", "/backups/", note="Before the upgrade")
    (row,) = backups.list_backups().items
    assert answer.location == f"/backups/{row.id}"
    assert (row.kind, row.status, row.note) == ("manual", "queued", "Before the upgrade")
    assert "Waiting for a worker" in admin.get(answer.location).text


def test_while_a_manual_backup_runs_the_page_shows_it_and_offers_no_second(admin: Browser, make_row: Make) -> None:
    row = make_row("in_progress", phase="documents", bytes_done=250, bytes_total=1000)
    page = admin.get("/backups/")
    assert page.select("section", data_live=f"/backups/{row.id}/partial")
    assert "25 %" in page.by_id("live")
    assert not page.select("form", action="/backups/", method="post")


def test_a_second_manual_backup_is_refused_with_the_reason(admin: Browser, make_row: Make) -> None:
    page = admin.get("/backups/")
    make_row("in_progress")
    refused = Page(admin.submit(page, "/backups/", 409))
    assert "already running" in refused.by_id("error-summary")
    assert backups.list_backups().total == 1


def test_a_note_that_is_too_long_is_refused_at_its_field(admin: Browser) -> None:
    page = Page(admin.submit("/backups/", "/backups/", 422, note="x" * 2001))
    assert page.by_id("note-error") == "Use at most 2000 characters."
    assert backups.list_backups().total == 0


def test_an_unhealthy_part_is_shown_on_every_page(admin: Browser, make_row: Make) -> None:
    row = make_row()
    for path in ("/backups/", f"/backups/{row.id}", f"/backups/{row.id}/delete"):
        assert "No worker is running" in admin.get(path).by_id("health")
    db.session.rollback()
