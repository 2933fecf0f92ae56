"""Untrusted archives, trusting one, test restores, and the recovery sheet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.models import BackupHistory, utcnow
from app.services.audit import audit
from app.services.backups import backups
from tests.support.application import EMAIL, PASSWORD
from tests.support.browser import Browser, Page
from tests.support.restore_pages import foreign_archive
from tests.support.upload_pages import uploaded

Make = Callable[..., BackupHistory]


def test_the_preview_of_an_untrusted_archive_says_so_and_lists_its_code(admin: Browser, tmp_path: Path) -> None:
    path = uploaded(admin, foreign_archive(tmp_path))
    quick = admin.get(f"{path}/restore")
    assert "not signed by this installation: untrusted" in quick.text
    assert "not counted yet" in quick.text
    assert quick.select("a", href=f"{path}/trust")
    exact = admin.get(f"{path}/restore/exact", fragment=True)
    assert "Code in this archive" in exact.text
    assert "greet" in exact.text
    assert "notes" in exact.text


def test_trust_takes_its_sentence_and_is_noted_in_the_audit_log(admin: Browser, tmp_path: Path) -> None:
    path = uploaded(admin, foreign_archive(tmp_path))
    page = admin.get(f"{path}/trust")
    assert "run anything in your database" in page.text
    refused = Page(admin.submit(page, f"{path}/trust", 422, words="yes"))
    assert "I trust this archive" in refused.by_id("words-error")
    refused = Page(admin.submit(page, f"{path}/trust", 422, words="I trust this archive"))
    assert refused.by_id("password-error")
    assert audit.list_entries(action="backup.trusted").total == 0
    admin.submit(page, f"{path}/trust", words="I trust this archive", password=PASSWORD)
    assert audit.list_entries(action="backup.trusted").total == 1
    words = admin.get(path).text
    assert f"trusted by {EMAIL}" in words
    assert "trust it…" not in words
    assert "already trusted it" in admin.get(f"{path}/trust").text
    assert "needs no trust" in admin.get(f"{path}/trust").text


def test_an_archive_of_another_key_is_told_from_an_unsigned_one(admin: Browser, make_row: Make) -> None:
    row = make_row(origin="other_key")
    assert "signed with another key" in admin.get(f"/backups/{row.id}").text
    assert "BACKUP_SIGNING_KEY" in admin.get(f"/backups/{row.id}/trust").text


def test_what_is_signed_by_us_can_t_be_trusted_more(admin: Browser, make_row: Make) -> None:
    row = make_row()
    page = admin.get(f"/backups/{row.id}/trust")
    assert "signed by this installation" in page.text
    assert not page.select("form", action=f"/backups/{row.id}/trust")


def test_a_test_restore_is_asked_for_and_its_result_stands_beside_the_verification(admin: Browser, make_row: Make) -> None:
    row = make_row()
    action = f"/backups/{row.id}/verify"
    page = admin.get(f"/backups/{row.id}")
    token = page.form(action)["csrf_token"]
    assert len(page.select("form", action=action)) == 2
    admin.open("POST", action, data={"csrf_token": token, "restore": "yes"})
    after = backups.get(row.id)
    assert after.verify_requested_at is not None
    assert after.verify_restoring
    page = admin.get(f"/backups/{row.id}")
    assert "Restoring into a scratch database, as a test" in page.text
    assert "being restored now" in page.by_id("facts")

    tested = make_row(restore_tested_at=utcnow(), restore_test_seconds=12.3)
    assert "took 12 s" in admin.get(f"/backups/{tested.id}").by_id("facts")


def test_the_recovery_sheet_is_explained_and_takes_the_password(admin: Browser) -> None:
    page = admin.get("/recovery")
    assert "away from this machine" in page.text
    refused = Page(admin.submit(page, "/recovery", 422, password="wrong"))
    assert "wrong" in refused.by_id("password-error")
    assert audit.list_entries(action="recovery_sheet.downloaded").total == 0

    answer = admin.submit(page, "/recovery", 200, password=PASSWORD)
    assert "BACKUP_SIGNING_KEY=" in answer.text
    assert "attachment" in answer.headers["Content-Disposition"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.mimetype == "text/plain"
    assert audit.list_entries(action="recovery_sheet.downloaded").total == 1


@pytest.mark.parametrize("path", ["/recovery", "/backups/00000000-0000-0000-0000-000000000000/trust"])
def test_sheet_and_trust_are_for_admins(visitor: Browser, path: str) -> None:
    assert visitor.redirected(path).startswith("/login?next=")
    assert visitor.open("POST", path, data={"password": PASSWORD}).status_code in (302, 400)
