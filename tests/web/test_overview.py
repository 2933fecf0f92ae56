"""The start page: is everything fine, and what is to be done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from app.extensions import db
from app.models import AuditEntry, BackupHistory, Restore, Tick, utcnow
from app.runs import queue
from app.services import settings_row
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.backups import backups
from app.services.inputs import SettingsInput
from app.services.installation import settings
from app.services.schedules import last_ticks
from tests.support.application import TESTER
from tests.support.browser import Browser, Page
from tests.support.scheduling import make_schedule

Make = Callable[..., BackupHistory]


@pytest.fixture
def healthy(admin: Browser, monkeypatch: pytest.MonkeyPatch) -> Browser:
    """The admin where worker and scheduler run."""
    worker = queue.WorkerSummary("a worker", tuple(queue.QUEUES))
    monkeypatch.setattr(queue, "workers", lambda: [worker])
    db.session.add(Tick(name=last_ticks.CHECK, last_ran_at=utcnow()))
    db.session.commit()
    return admin


def set_up(make_row: Make) -> BackupHistory:
    """Do every step of the setup, and return the backup."""
    row = make_row(verified_at=utcnow(), restore_tested_at=utcnow(), size_bytes=12_345_678)
    make_schedule(name="Nightly", frequency="daily")
    settings_row.row().channels_sealed = "sealed"
    audit.record(TESTER, "recovery_sheet.downloaded", "settings")
    db.session.commit()
    return row


def test_the_start_page_needs_a_login(visitor: Browser) -> None:
    assert visitor.redirected("/").startswith("/login")


def test_without_anything_it_leads_through_the_setup(healthy: Browser) -> None:
    page = healthy.get("/")
    assert page.by_id("verdict-title") == "There is no backup yet."
    assert len(page.select("section", id="setup")[0].findall(".//{*}li")) == 5
    for path in ("/schedules/new", "/settings/notifications", "/recovery"):
        assert page.select("a", href=path), path
    assert "None yet" in page.by_id("tiles")


def test_with_all_in_order_everything_is_fine(healthy: Browser, make_row: Make) -> None:
    row = set_up(make_row)
    page = healthy.get("/")
    assert page.by_id("verdict-title") == "Everything is fine."
    assert "the next one is due in" in page.by_id("standing")
    assert not page.select("section", id="setup")
    assert not page.select("ul", class_="problems")
    words = page.by_id("tiles")
    for expected in ("1 hour ago", "12.3 MB", "Verified", "Nightly", "as a test", "free"):
        assert expected in words
    assert page.select("a", href=f"/backups/{row.id}")


def test_the_page_says_what_is_wrong_and_where_to_go(healthy: Browser, make_row: Make) -> None:
    make_row("failed")
    set_up(make_row)
    page = healthy.get("/")
    assert page.by_id("verdict-title") == "One problem needs attention now."
    assert "The last backup failed" in page.by_id("standing")
    assert page.select("a", href="/backups/?status=failed")
    assert not [element for element in page.root.iter() if element.get("id") == "health"]


def test_a_missing_worker_is_the_first_thing_that_is_said(admin: Browser, make_row: Make) -> None:
    set_up(make_row)
    page = admin.get("/")
    assert page.by_id("verdict-title").endswith("attention now.")
    assert "No worker is running" in page.by_id("standing")
    assert "The scheduler has not ticked yet" in page.by_id("standing")


def test_what_is_not_serious_is_told_apart(healthy: Browser, make_row: Make) -> None:
    row = set_up(make_row)
    row.warnings = ["a file changed while it was read"]
    row.restore_tested_at = utcnow() - timedelta(days=120)
    db.session.add(BackupHistory(kind="manual", status="failed", error="x", created_at=utcnow() - timedelta(days=2)))
    db.session.commit()
    page = healthy.get("/")
    assert page.by_id("verdict-title") == "Backups work; there are 3 warnings."
    for expected in ("completed with a warning", "for 120 days", "1 backup has failed in the last seven days"):
        assert expected in page.by_id("standing")


def test_backups_that_stopped_without_a_schedule_are_no_small_matter(healthy: Browser, make_row: Make) -> None:
    long_ago = utcnow() - timedelta(days=12)
    make_row(created_at=long_ago, started_at=long_ago)
    page = healthy.get("/")
    assert "12 days old, and no schedule makes the next one" in page.by_id("standing")
    assert page.by_id("verdict-title") == "One problem needs attention now."


def test_a_failed_restore_is_told(healthy: Browser, make_row: Make) -> None:
    row = set_up(make_row)
    db.session.add(Restore(backup_id=row.id, scope="all", status="failed", error="x"))
    db.session.commit()
    assert "The last restore failed" in healthy.get("/").by_id("standing")


def test_mail_without_a_mail_server_tells_nobody(healthy: Browser, make_row: Make) -> None:
    make_row()
    settings.update(TESTER, SettingsInput.model_validate({"recipients": ["ops@example.org"]}))
    assert "Choose who is notified" in healthy.get("/").by_id("setup")


def test_steps_that_are_done_are_only_counted_once_there_is_a_backup(healthy: Browser, make_row: Make) -> None:
    make_row()
    page = healthy.get("/")
    assert "1 of 5 steps are done" in page.by_id("setup")
    assert "Make a first backup" not in page.by_id("setup")
    assert page.by_id("verdict-title") == "Backups work; 4 setup steps are left."


def test_the_last_backup_is_tested_by_a_button(healthy: Browser, make_row: Make) -> None:
    row = make_row()
    answer = healthy.submit("/", f"/backups/{row.id}/verify")
    assert answer.location == f"/backups/{row.id}"
    assert backups.get(row.id).verify_restoring
    assert "in progress" in healthy.get("/").by_id("setup")


def test_an_upload_is_no_backup_of_this_system(healthy: Browser, make_row: Make) -> None:
    make_row(kind="uploaded", origin="foreign")
    assert healthy.get("/").by_id("verdict-title") == "There is no backup yet."


def test_a_proof_outlives_the_backup_that_it_was_about(healthy: Browser, make_row: Make) -> None:
    row = set_up(make_row)
    backups.delete(Actor.system("tests"), row.id)
    make_row()
    page = healthy.get("/")
    assert page.by_id("verdict-title") == "Everything is fine."
    entry = db.session.query(AuditEntry).filter_by(action="backup.deleted").one()
    assert entry.detail["size_bytes"] == 12_345_678


def test_back_up_now_starts_one_and_the_page_shows_it(healthy: Browser) -> None:
    page = healthy.get("/")
    answer = healthy.submit(page, "/backups/")
    row = backups.list_backups().items[0]
    assert answer.location == f"/backups/{row.id}"
    page = healthy.get("/")
    assert "Waiting for a worker" in page.by_id("live")
    assert "The first one is being made" in page.by_id("standing")
    assert not page.select("form", action="/backups/")
    assert page.select("a", href=f"/backups/{row.id}")


def test_the_live_part_is_the_same_partial_as_the_backup_page_renews(healthy: Browser, make_row: Make) -> None:
    row = make_row("in_progress", phase="database", bytes_done=10, bytes_total=100)
    page = healthy.get("/")
    live = page.select("section", data_live=f"/backups/{row.id}/partial")
    assert len(live) == 1
    fragment = healthy.get(f"/backups/{row.id}/partial", fragment=True)
    assert "".join("".join(live[0].itertext()).split()) == fragment.text.replace(" ", "")


def test_a_running_restore_is_shown_once(healthy: Browser, make_row: Make) -> None:
    row = set_up(make_row)
    restore = Restore(backup_id=row.id, scope="all", status="in_progress", phase="check")
    db.session.add(restore)
    db.session.commit()
    page = healthy.get("/")
    assert page.select("section", data_live=f"/restores/{restore.id}/partial")
    assert not page.select("div", id="restore-banner")


def test_the_navigation_begins_with_the_overview_and_says_where_one_is(admin: Browser) -> None:
    page = admin.get("/")
    for nav in page.select("nav", aria_label="Main"):
        links = nav.findall(".//{*}a")
        assert [link.get("href") for link in links][:3] == ["/", "/backups/", "/restores/"]
        assert [link.get("href") for link in links if link.get("aria-current")] == ["/"]
    assert len(page.select("nav", aria_label="Main")) == 2
    account = [link.get("href") for link in page.select("a", class_="menu-item")]
    assert account == ["/account/", "/admins/", "/tokens/", "/recovery"]
    backups_page: Page = admin.get("/backups/")
    assert {link.get("href") for link in backups_page.select("a", aria_current="page")} == {"/backups/"}
