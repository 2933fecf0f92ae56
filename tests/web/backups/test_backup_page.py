"""The page of one backup, and what its buttons do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from app.extensions import db
from app.models import BackupHistory, utcnow
from app.services.backups import backups
from tests.support.application import PASSWORD
from tests.support.browser import Browser, Page
from tests.support.restore_pages import make_restore

Make = Callable[..., BackupHistory]


def test_a_completed_backup_shows_all_its_facts(admin: Browser, make_row: Make) -> None:
    row = make_row(size_bytes=12_345_678)
    words = admin.get(f"/backups/{row.id}").by_id("facts")
    for expected in (
        "12.3 MB (12,345,678 bytes)",
        "ab" * 32,
        row.filename,
        str(row.id),
        "48,210",
        "312 (98 MB)",
        "18.4",
    ):
        assert str(expected) in words


def test_warnings_are_listed_and_no_markup_of_theirs_is_run(admin: Browser, make_row: Make) -> None:
    row = make_row(warnings=["documents/7/<script>alert(1)</script>.pdf changed while it was read."])
    page = admin.get(f"/backups/{row.id}")
    assert "<script>alert(1)</script>.pdf changed" in page.by_id("head")
    assert all(script.get("src", "").startswith("/static/") for script in page.select("script"))


def test_many_warnings_are_folded_away_but_for_the_first(admin: Browser, make_row: Make) -> None:
    row = make_row(warnings=[f"documents/7/{number}.pdf vanished before it was read" for number in range(1001)])
    page = admin.get(f"/backups/{row.id}")
    assert "996 more warnings" in page.text
    assert len([item for item in page.select("li") if "vanished" in "".join(item.itertext())]) == 1001


def test_why_it_is_kept_is_said_in_words(admin: Browser, make_row: Make) -> None:
    row = make_row()
    page = admin.get(f"/backups/{row.id}")
    assert "Why it is kept" in page.by_id("why-title")
    assert page.by_id("explanation").startswith("Kept as hourly 1 of 8")
    assert "newest backup" in page.by_id("explanation")
    assert "why-title" not in admin.get(f"/backups/{make_row('failed').id}").html


def test_a_failed_backup_says_why_and_what_to_do(admin: Browser, make_row: Make) -> None:
    row = make_row("failed", phase="database")
    page = admin.get(f"/backups/{row.id}")
    assert "Check BACKUP_SOURCE_URL." in page.by_id("head")
    assert "start another backup" in page.by_id("head")
    assert "Reading the database" in page.by_id("facts")
    assert not page.select("a", href=f"/backups/{row.id}/download")


@pytest.mark.parametrize("status", ["queued", "in_progress"])
def test_page_and_live_update_show_the_same_progress(admin: Browser, make_row: Make, status: str) -> None:
    row = make_row(status, phase="database", bytes_done=423, bytes_total=1000)
    page = admin.get(f"/backups/{row.id}")
    partial = admin.get(f"/backups/{row.id}/partial", fragment=True)
    assert partial.text in page.text
    assert "42 %" in partial.text
    assert partial.select("progress")[0].get("value") == "42.3"
    assert partial.select("li", aria_current="step")[0].text == "Reading the database"


def test_the_live_update_ends_with_the_backup(admin: Browser, make_row: Make) -> None:
    row = make_row()
    partial = admin.get(f"/backups/{row.id}/partial", fragment=True)
    assert "data-live=" not in partial.html
    assert partial.text == "Backup completed"


def test_a_running_backup_is_cancelled(admin: Browser, make_row: Make) -> None:
    row = make_row("in_progress")
    admin.submit(f"/backups/{row.id}", f"/backups/{row.id}/cancel")
    assert backups.get(row.id).cancel_requested_at is not None
    page = admin.get(f"/backups/{row.id}")
    assert "Cancelling" in page.text
    assert not page.select("form", action=f"/backups/{row.id}/cancel")


def test_cancelling_what_has_just_finished_says_so(admin: Browser, make_row: Make) -> None:
    row = make_row("in_progress")
    page = admin.get(f"/backups/{row.id}")
    row.status, row.error = "failed", "No space left."
    db.session.commit()
    admin.submit(page, f"/backups/{row.id}/cancel")
    assert "nothing to cancel" in admin.get(f"/backups/{row.id}").by_id("flashes")


def test_a_backup_is_pinned_and_unpinned(admin: Browser, make_row: Make) -> None:
    row = make_row()
    admin.submit(f"/backups/{row.id}", f"/backups/{row.id}/pin")
    assert backups.get(row.id).pinned
    unpin = admin.submit(f"/backups/{row.id}", f"/backups/{row.id}/pin").location or ""
    refused = Page(admin.submit(unpin, unpin, 422))
    assert refused.by_id("password-error")
    assert backups.get(row.id).pinned
    admin.submit(refused, unpin, password=PASSWORD)
    assert not backups.get(row.id).pinned


def test_a_note_is_changed_and_a_bad_one_is_refused_at_its_field(admin: Browser, make_row: Make) -> None:
    row = make_row(note="old")
    path = f"/backups/{row.id}"
    assert admin.get(path).form(f"{path}/note")["note"] == "old"
    refused = Page(admin.submit(path, f"{path}/note", 422, note="x" * 2001))
    assert refused.by_id("note-error") == "Use at most 2000 characters."
    admin.submit(path, f"{path}/note", note="new")
    assert backups.get(row.id).note == "new"
    admin.submit(path, f"{path}/note", note="")
    assert backups.get(row.id).note is None


def test_a_verification_is_queued_once(admin: Browser, make_row: Make) -> None:
    row = make_row()
    page = admin.get(f"/backups/{row.id}")
    admin.submit(page, f"/backups/{row.id}/verify")
    assert backups.get(row.id).verify_requested_at is not None
    assert admin.get(f"/backups/{row.id}").select("section", data_live=f"/backups/{row.id}/partial")
    admin.submit(page, f"/backups/{row.id}/verify")
    assert "verified already" in admin.get(f"/backups/{row.id}").by_id("flashes")


def test_the_download_names_the_file_and_goes_on_where_it_stopped(admin: Browser, make_row: Make) -> None:
    row = make_row()
    whole = admin.open("GET", f"/backups/{row.id}/download")
    assert whole.data == b"the archive's bytes"
    assert row.filename in whole.headers["Content-Disposition"]
    assert whole.headers["ETag"] == f'"{row.sha256}"'
    part = admin.open("GET", f"/backups/{row.id}/download", headers={"Range": "bytes=4-", "If-Range": whole.headers["ETag"]})
    assert (part.status_code, part.data) == (206, b"archive's bytes")
    assert admin.open("GET", f"/backups/{row.id}/download", headers={"Range": "bytes=99-"}).status_code == 416


def test_deleting_says_first_what_goes_and_what_remains(admin: Browser, make_row: Make) -> None:
    row = make_row(pinned=True, note="keep me")
    page = admin.get(f"/backups/{row.id}/delete")
    for expected in (row.filename, "keep me", "the only completed backup", "It is pinned", "no other completed backup"):
        assert str(expected) in page.text
    other = make_row()
    page = admin.get(f"/backups/{row.id}/delete")
    assert "1 other completed backup, the newest of" in page.text
    assert page.select("a", href=f"/backups/{other.id}")
    assert "Delete it and free 19 B" in page.text


def test_deleting_the_only_verified_backup_says_so(admin: Browser, make_row: Make) -> None:
    row, other = make_row(verified_at=utcnow()), make_row()
    page = admin.get(f"/backups/{row.id}/delete")
    assert "the only verified backup" in page.by_id("last-copy")
    assert page.select("a", href=f"/backups/{other.id}")
    assert "last-copy" not in admin.get(f"/backups/{other.id}/delete").html


def test_deleting_the_way_back_of_a_restore_says_so(admin: Browser, make_row: Make) -> None:
    row = make_row(kind="safety")
    restore = make_restore(safety_backup_id=row.id)
    assert "can be undone without it until" in admin.get(f"/backups/{row.id}/delete").by_id("way-back")
    restore.undo_until = utcnow()
    db.session.commit()
    page = admin.get(f"/backups/{row.id}/delete")
    assert "this backup is the only way to return to that state" in page.by_id("way-back")
    assert page.select("a", href=f"/restores/{restore.id}")


def test_a_deleted_backup_and_its_file_are_gone(admin: Browser, make_row: Make, storage_dir: Path) -> None:
    row = make_row()
    path, name = f"/backups/{row.id}", row.filename
    refused = Page(admin.submit(f"{path}/delete", f"{path}/delete", 422, password="wrong"))
    assert "The password is wrong" in refused.by_id("password-error")
    assert list(storage_dir.iterdir())
    assert admin.submit(refused, f"{path}/delete", password=PASSWORD).location == "/backups/"
    assert f"{name} is deleted: 19 B are free again. No completed" in admin.get("/backups/").by_id("flashes")
    assert not list(storage_dir.iterdir())
    assert "deleted" in admin.get(path, 404).text


def test_a_running_backup_is_not_deleted(admin: Browser, make_row: Make) -> None:
    row = make_row("in_progress")
    path = f"/backups/{row.id}/delete"
    refused = Page(admin.submit(path, path, 409, password=PASSWORD))
    assert "Cancel it first" in refused.by_id("error-summary")
    assert backups.get(row.id).status == "in_progress"


@pytest.mark.parametrize("action", ["note", "pin", "cancel", "verify", "delete"])
def test_nothing_changes_without_the_page_s_token(admin: Browser, make_row: Make, action: str) -> None:
    row = make_row(note="mine")
    answer = admin.open("POST", f"/backups/{row.id}/{action}", data={"note": "theirs", "pinned": "yes"})
    assert answer.status_code == 400
    after = backups.get(row.id)
    assert (after.note, after.pinned, after.verify_requested_at) == ("mine", False, None)


@pytest.mark.parametrize("action", ["", "/partial", "/download", "/delete"])
def test_who_is_not_logged_in_sees_nothing(visitor: Browser, make_row: Make, action: str) -> None:
    assert visitor.redirected(f"/backups/{make_row().id}{action}").startswith("/login?next=")


def test_a_backup_that_is_not_there_gets_a_page_that_says_so(admin: Browser) -> None:
    for action in ("", "/partial", "/download", "/delete"):
        assert "Not found" in admin.get(f"/backups/{uuid4()}{action}", 404).text
