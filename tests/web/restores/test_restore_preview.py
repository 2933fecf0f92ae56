"""The preview of a restore, and its confirmation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from apiflask import APIFlask

from app.models import BackupHistory
from app.services.audit import audit
from app.services.restores import restores
from tests.support.application import PASSWORD
from tests.support.browser import Browser, Page
from tests.support.databases import SourceDatabase
from tests.support.restore_pages import make_restore, own_backup

Make = Callable[..., BackupHistory]


@pytest.fixture
def changed(app: APIFlask, source_db: SourceDatabase, documents_dir: Path) -> BackupHistory:
    """A backup, after which a table has lost rows, another one has come, and documents have changed."""
    row = own_backup(app)
    with psycopg.connect(source_db.url) as connection:
        connection.execute("DELETE FROM vehicles WHERE id > 958")
        connection.execute("UPDATE vehicles SET name = 'another' WHERE id <= 3")
        connection.execute("CREATE TABLE later AS SELECT 1 AS n")
    (documents_dir / "new <b>.txt").write_text("written after the backup")
    return row


def test_the_quick_preview_marks_estimates_and_says_where_to_count(admin: Browser, changed: BackupHistory) -> None:
    page = admin.get(f"/backups/{changed.id}/restore")
    assert "≈" in page.by_id("preview")
    assert page.select("div", data_exact=f"/backups/{changed.id}/restore/exact?scope=all")
    assert page.select("a", href=f"/backups/{changed.id}/restore?scope=all&exact=1")


@pytest.mark.parametrize("path", ["restore?exact=1", "restore/exact"])
def test_the_exact_preview_is_a_diff_of_tables_and_documents(admin: Browser, changed: BackupHistory, path: str) -> None:
    words = admin.get(f"/backups/{changed.id}/{path}", fragment=path == "restore/exact").text
    assert "vehicles 958 1,000 +42 42 rows come back 3 rows go back to what they were Show id" in words
    assert "Come back: 959; 960; 961; 962; 963; 964; 965; 966; 967; 968 and 32 more Change: 1; 2; 3" in words
    assert "later 1 missing disappears" in words
    assert "1 disappear Show the name new <b>.txt" in words
    assert "signed by this installation" in words
    assert "≈" not in words


def test_a_table_that_keeps_its_number_of_rows_is_the_same_only_if_its_rows_are(
    admin: Browser, app: APIFlask, source_db: SourceDatabase
) -> None:
    row = own_backup(app)
    assert "Every row is the same as in the backup." in admin.get(f"/backups/{row.id}/restore?exact=1").text
    with psycopg.connect(source_db.url) as connection:
        connection.execute("UPDATE vehicles SET name = 'another' WHERE id = 7")
    words = admin.get(f"/backups/{row.id}/restore?exact=1").text
    assert "vehicles 1,000 1,000 changed 1 row goes back to what it was" in words
    assert "Every row" not in words
    assert "1 table keeps its number of rows, by estimate" in admin.get(f"/backups/{row.id}/restore").text
    with psycopg.connect(source_db.url) as connection:
        connection.execute("ALTER TABLE vehicles ADD COLUMN wheels int")
    words = admin.get(f"/backups/{row.id}/restore").text
    assert "column wheels disappears rows not compared because the columns differ" in words


def test_page_and_exact_fragment_are_the_same(admin: Browser, changed: BackupHistory) -> None:
    fragment = admin.get(f"/backups/{changed.id}/restore/exact?scope=database", fragment=True)
    assert fragment.text in admin.get(f"/backups/{changed.id}/restore?scope=database&exact=1").text


@pytest.mark.parametrize(
    ("scope", "there", "missing"), [("database", "Tables", "Documents"), ("documents", "Documents", "Tables")]
)
def test_the_scope_decides_what_is_compared(
    admin: Browser, changed: BackupHistory, scope: str, there: str, missing: str
) -> None:
    page = admin.get(f"/backups/{changed.id}/restore?scope={scope}&exact=1")
    titles = ["".join(title.itertext()).strip() for title in page.select("h2")]
    assert there in titles
    assert missing not in titles
    assert page.select("a", aria_current="true")[-1].get("href", "").endswith(f"scope={scope}")


def test_a_blocker_is_named_and_there_is_no_way_on(admin: Browser, app: APIFlask, make_row: Make) -> None:
    row = own_backup(app)
    make_row("in_progress")
    page = admin.get(f"/backups/{row.id}/restore")
    assert "A backup is running" in page.by_id("blockers")
    assert not page.select("a", href=f"/backups/{row.id}/restore/confirm?scope=all")
    confirm = admin.get(f"/backups/{row.id}/restore/confirm")
    assert "A backup is running" in confirm.by_id("blockers")
    assert not confirm.select("form", action=f"/backups/{row.id}/restore/confirm?scope=all")


def test_what_is_not_completed_leads_back_to_its_page(admin: Browser, make_row: Make) -> None:
    row = make_row("failed")
    for path in ("restore", "restore/confirm"):
        assert admin.redirected(f"/backups/{row.id}/{path}") == f"/backups/{row.id}"
        assert "no archive" in admin.get(f"/backups/{row.id}").by_id("flashes")


def test_a_restore_is_confirmed_by_database_name_and_password(
    admin: Browser, changed: BackupHistory, source_db: SourceDatabase
) -> None:
    action = f"/backups/{changed.id}/restore/confirm?scope=all"
    page = admin.get(action)
    assert f"type {source_db.name}" in page.text
    assert "24 hours you can undo this" in page.text

    refused = Page(admin.submit(page, action, 422, confirm="something else", password=PASSWORD))
    assert source_db.name in refused.by_id("confirm-error")
    refused = Page(admin.submit(page, action, 422, confirm=source_db.name, password="not the password"))
    assert "wrong" in refused.by_id("password-error")
    assert refused.select("input", id="password")[0].get("value", "") == ""
    assert restores.status() is None

    answer = admin.submit(page, action, confirm=source_db.name, password=PASSWORD)
    row = restores.status()
    assert row is not None
    assert answer.location == f"/restores/{row.id}"
    assert (row.scope, row.safety_backup, row.status) == ("all", True, "queued")


def test_leaving_the_safety_backup_out_takes_a_second_box_in_so_many_words(
    admin: Browser, changed: BackupHistory, source_db: SourceDatabase
) -> None:
    action = f"/backups/{changed.id}/restore/confirm?scope=documents"
    given = {"confirm": source_db.name, "password": PASSWORD, "safety_backup": None}
    refused = Page(admin.submit(action, action, 422, **given))
    assert "Tick this box too" in refused.by_id("without_safety-error")
    assert restores.status() is None
    admin.submit(action, action, **given, without_safety="y")
    row = restores.status()
    assert row is not None
    assert (row.scope, row.safety_backup) == ("documents", False)
    assert audit.list_entries(action="restore.without_safety_backup").total == 1


def test_a_second_restore_is_refused_on_the_page(admin: Browser, changed: BackupHistory, source_db: SourceDatabase) -> None:
    action = f"/backups/{changed.id}/restore/confirm?scope=all"
    page = admin.get(action)
    make_restore("in_progress")
    refused = Page(admin.submit(page, action, 409, confirm=source_db.name, password=PASSWORD))
    assert "A restore is already running" in refused.by_id("error-summary")


def test_too_many_wrong_passwords_have_to_wait(admin: Browser, changed: BackupHistory, source_db: SourceDatabase) -> None:
    action = f"/backups/{changed.id}/restore/confirm?scope=all"
    page = admin.get(action)
    for _ in range(20):
        filled = page.form(action) | {"confirm": source_db.name, "password": "wrong"}
        answer = admin.open("POST", action, data=filled)
        if answer.status_code == 429:
            break
    assert answer.status_code == 429
    assert "Too many" in Page(answer).by_id("error-summary")
    assert restores.status() is None


def test_nothing_starts_without_the_page_s_token(admin: Browser, changed: BackupHistory, source_db: SourceDatabase) -> None:
    given = {"confirm": source_db.name, "password": PASSWORD, "safety_backup": "y"}
    assert admin.open("POST", f"/backups/{changed.id}/restore/confirm", data=given).status_code == 400
    assert restores.status() is None
