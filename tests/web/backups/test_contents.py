"""Looking into a backup: tables, folders of documents, one document."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from apiflask import APIFlask

from app.models import BackupHistory
from app.services.backups import backups
from app.web.backups.contents import PAGE_SIZE
from tests.support.browser import Browser, Page
from tests.support.foreign_archives import upload
from tests.support.restore_pages import foreign_archive, own_backup

Make = Callable[..., BackupHistory]


@pytest.fixture
def backup(app: APIFlask, documents_dir: Path) -> BackupHistory:
    """A real archive whose documents have names of every sort."""
    folder = documents_dir / "7" / "a & b" / "er"
    folder.mkdir(parents=True)
    (folder / "Invoice ü.PDF").write_bytes(b"%PDF invoice")
    (documents_dir / "7" / "<script>alert(1)").write_bytes(b"html")
    (documents_dir / os.fsdecode(b"7/caf\xe9.txt")).write_bytes(b"latin")
    os.mkdir(documents_dir / os.fsdecode(b"7/\xff"))
    (documents_dir / os.fsdecode(b"7/\xff/in.txt")).write_bytes(b"inside")
    return own_backup(app)


def links(page: Page, text: str) -> list[str]:
    """Return the targets of a page's links with these words."""
    return [link.get("href", "") for link in page.select("a") if " ".join("".join(link.itertext()).split()) == text]


def link(page: Page, text: str) -> str:
    """Return the target of a page's only link with these words."""
    (address,) = links(page, text)
    return address


def test_the_tabs_lead_to_tables_and_documents(admin: Browser, backup: BackupHistory) -> None:
    page = admin.get(f"/backups/{backup.id}")
    tables = admin.get(link(page, "Tables 1"))
    assert "vehicles" in tables.text
    assert "1 table with 1,000 rows" in tables.text
    assert tables.select("a", aria_current="page")[0].get("href") == f"/backups/{backup.id}/tables"
    assert "100.0 %" in tables.text
    number = backup.summary["documents"]
    assert f"{number} documents" in admin.get(link(page, f"Documents {number}")).text


def test_folders_are_walked_down_and_up_again_and_a_document_is_downloaded(admin: Browser, backup: BackupHistory) -> None:
    top = admin.get(f"/backups/{backup.id}/documents")
    seven = admin.get(link(top, "7"))
    inner = admin.get(link(admin.get(link(seven, "a & b")), "er"))
    assert [name for name in ("documents", "7", "a & b", "er") if not links(inner, name)] == []
    (download,) = [item.get("href", "") for item in inner.select("a") if item.get("aria-label") == "Download Invoice ü.PDF"]
    answer = admin.open("GET", download)
    assert answer.data == b"%PDF invoice"
    assert answer.headers["Content-Disposition"].startswith("attachment;")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert "1 document in this folder and below" in inner.text
    assert "2 documents" not in inner.text
    assert admin.get(link(inner, "documents")).text == top.text


def test_names_that_are_no_words_are_shown_harmlessly_and_work(admin: Browser, backup: BackupHistory) -> None:
    page = admin.get(f"/backups/{backup.id}/documents?folder=7")
    assert "<script>alert(1)" in page.text
    (latin,) = [item.get("href", "") for item in page.select("a") if item.get("aria-label") == "Download caf\\xe9.txt"]
    assert admin.open("GET", latin).data == b"latin"
    odd = admin.get(link(page, "\\xff"))
    (inside,) = [item.get("href", "") for item in odd.select("a") if item.get("aria-label") == "Download in.txt"]
    assert admin.open("GET", inside).data == b"inside"


def test_a_search_finds_documents_by_name_and_says_where_they_are(admin: Browser, backup: BackupHistory) -> None:
    page = admin.get(f"/backups/{backup.id}/documents?search=INVOICE+%C3%9C")
    assert "1 document whose name contains “INVOICE Ü”" in page.text
    assert admin.get(link(page, "in 7/a & b/er")).select("a", aria_current="location")
    nothing = admin.get(f"/backups/{backup.id}/documents?search=zebra&folder=7")
    assert "No document matches" in nothing.text
    assert nothing.select("input", type="hidden", name="folder", value="7")
    assert "search=zebra" in link(nothing, "Search all documents")


def test_a_long_folder_comes_in_pages(admin: Browser, app: APIFlask, documents_dir: Path) -> None:
    (documents_dir / "9").mkdir()
    for number in range(PAGE_SIZE + 1):
        (documents_dir / "9" / f"{number:04}.txt").touch()
    row = own_backup(app)
    first = admin.get(f"/backups/{row.id}/documents?folder=9")
    assert len(first.select("tr")) == PAGE_SIZE + 1
    second = admin.get(first.select("a", rel="next")[0].get("href", ""))
    assert len(second.select("tr")) == 2
    assert "0100.txt" in second.text
    assert "folder=9" in second.select("a", rel="prev")[0].get("href", "")
    assert "This page is empty" in admin.get(f"/backups/{row.id}/documents?folder=9&page=9").text


def test_an_archive_from_elsewhere_says_that_it_has_no_index_and_offers_all_of_it(admin: Browser, tmp_path: Path) -> None:
    content = foreign_archive(tmp_path)
    row = upload(content)
    for part in ("tables", "documents"):
        page = admin.get(f"/backups/{row.id}/{part}")
        assert "no index" in page.by_id("no-contents")
        assert link(page, "Download the whole archive") == f"/backups/{row.id}/download"
    assert admin.open("GET", f"/backups/{row.id}/documents/file?path=one.txt").status_code == 409


def test_what_is_damaged_gone_or_not_there_says_so_on_its_page(
    admin: Browser, backup: BackupHistory, storage_dir: Path
) -> None:
    assert "no such folder" in admin.get(f"/backups/{backup.id}/documents?folder=../..", 404).by_id("no-contents")
    assert "Not found" in admin.get(f"/backups/{backup.id}/documents/file?path=../manifest.json", 404).text
    path = storage_dir / str(backup.filename)
    os.truncate(path, path.stat().st_size - 1)
    assert "truncated" in admin.get(f"/backups/{backup.id}/tables", 409).by_id("no-contents")
    path.unlink()
    assert "no longer in the storage folder" in admin.get(f"/backups/{backup.id}/documents", 404).by_id("no-contents")


def test_a_backup_without_an_archive_has_no_tabs(admin: Browser, make_row: Make) -> None:
    row = make_row("failed")
    assert not links(admin.get(f"/backups/{row.id}"), "Documents")
    assert "no archive" in admin.get(f"/backups/{row.id}/documents", 409).by_id("no-contents")


@pytest.mark.parametrize("part", ["tables", "documents", "documents/file?path=a"])
def test_who_is_not_logged_in_sees_nothing_of_it(visitor: Browser, make_row: Make, part: str) -> None:
    assert visitor.redirected(f"/backups/{make_row().id}/{part}").startswith("/login?next=")
    assert backups.list_backups().total == 1
