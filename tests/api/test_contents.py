"""What is inside an archive, and single documents out of it, for machines."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.models import BackupHistory
from app.runs import locks
from app.services.audit import audit
from tests.support.api_session import machine
from tests.support.restore_pages import own_backup

URL = "/api/admin/backups"
Token = Callable[..., dict[str, str]]
ODD = os.fsdecode(b"7/caf\xe9 \xff.txt")
LARGE = os.urandom(9 * 1024 * 1024 + 17)


@pytest.fixture
def client(app: APIFlask, token: Token) -> FlaskClient:
    """A machine with a token that may back up."""
    return machine(app, token("backup"))


@pytest.fixture
def backup(app: APIFlask, documents_dir: Path) -> BackupHistory:
    """A real archive whose documents have names of every sort."""
    folder = documents_dir / "7" / "deep" / "er"
    folder.mkdir(parents=True)
    (folder / "Invoice ü 2026.PDF").write_bytes(b"%PDF invoice")
    (documents_dir / "7" / "large.bin").write_bytes(LARGE)
    (documents_dir / "7" / 'a "quoted"\n<name>.html').write_bytes(b"<script>alert(1)</script>")
    (documents_dir / "7" / "100%25.txt").write_bytes(b"percent")
    (documents_dir / ODD).write_bytes(b"latin")
    return own_backup(app)


def listed(client: FlaskClient, backup: BackupHistory, **query: Any) -> dict[str, Any]:
    """Return the list of a backup's documents for a query."""
    answer = client.get(f"{URL}/{backup.id}/contents/documents", query_string=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.get_json()
    return body


def test_the_contents_are_the_tables_and_the_number_of_documents(client: FlaskClient, backup: BackupHistory) -> None:
    body = client.get(f"{URL}/{backup.id}/contents").get_json()
    (table,) = body["tables"]
    assert (table["schema"], table["name"], table["rows"]) == ("public", "vehicles", 1000)
    assert table["bytes"] == body["table_bytes"] > 10_000
    assert body["documents"]["files"] == backup.summary["documents"]
    assert body["documents"]["bytes"] == backup.summary["documents_bytes"]
    assert client.get(body["documents_url"]).status_code == 200


def test_a_folder_lists_its_folders_first_with_what_is_below_them(client: FlaskClient, backup: BackupHistory) -> None:
    top = listed(client, backup)
    seven = next(item for item in top["items"] if item["name"] == "7")
    assert (seven["kind"], seven["documents"], seven["url"] is None) == ("folder", 5, False)
    inside = client.get(seven["url"]).get_json()
    assert inside["folder"] == "7"
    assert [item["kind"] for item in inside["items"]] == ["folder"] + ["file"] * 4
    deep = inside["items"][0]
    assert (deep["path"], deep["documents"], deep["size_bytes"]) == ("7/deep", 1, 12)
    assert inside["total"] == 5


def test_every_document_comes_out_as_it_went_in(client: FlaskClient, backup: BackupHistory, documents_dir: Path) -> None:
    found = listed(client, backup, search=".", page_size=100)
    assert found["total"] == len(found["items"]) > 5
    contents = {hashlib.sha256(path.read_bytes()).hexdigest() for path in documents_dir.rglob("*") if path.is_file()}
    for item in found["items"]:
        if item["kind"] != "file":
            continue
        answer = client.get(item["url"])
        assert answer.status_code == 200, (item, answer.text)
        assert len(answer.data) == item["size_bytes"] == answer.content_length
        assert hashlib.sha256(answer.data).hexdigest() == item["sha256"] == answer.headers["ETag"].strip('"')
        assert item["sha256"] in contents


def test_a_document_is_always_a_download_that_no_browser_runs(client: FlaskClient, backup: BackupHistory) -> None:
    (item,) = listed(client, backup, search="quoted")["items"]
    answer = client.get(item["url"])
    assert answer.data == b"<script>alert(1)</script>"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="a _quoted___name_.html"'
    assert answer.mimetype == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert "no-store" in answer.headers["Cache-Control"]


def test_who_took_which_document_out_is_in_the_audit_log(client: FlaskClient, backup: BackupHistory) -> None:
    (item,) = listed(client, backup, search="caf")["items"]
    client.head(item["url"]).close()
    with client.get(item["url"]) as answer:
        assert answer.data == b"latin"
    entries = [entry for entry in audit.list_entries().items if entry.action == "backup.document_downloaded"]
    assert [(entry.subject_id, entry.detail) for entry in entries] == [
        (str(backup.id), {"document": "7/caf\\xe9 \\xff.txt"})
    ]


def test_a_name_beyond_ascii_is_sent_in_both_spellings(client: FlaskClient, backup: BackupHistory) -> None:
    answer = client.get(f"{URL}/{backup.id}/contents/document?path=7/deep/er/Invoice %C3%BC 2026.PDF")
    assert answer.headers["Content-Disposition"] == (
        "attachment; filename=\"Invoice u 2026.PDF\"; filename*=UTF-8''Invoice%20%C3%BC%202026.PDF"
    )


def test_a_name_that_is_not_utf_8_is_found_by_its_address(client: FlaskClient, backup: BackupHistory) -> None:
    (item,) = listed(client, backup, search="caf")["items"]
    assert item["name"] == "caf\\xe9 \\xff.txt"
    assert client.get(item["url"]).data == b"latin"
    (percent,) = listed(client, backup, search="100%")["items"]
    assert client.get(percent["url"]).data == b"percent"


def test_a_path_is_only_looked_up_in_the_index(client: FlaskClient, backup: BackupHistory) -> None:
    elsewhere = ["../../../etc/passwd", "/etc/passwd", "7/../7/large.bin", "7/large.bin/", "./7/large.bin", "7//large.bin"]
    not_files = ["7", "", "documents/7/large.bin", "7/LARGE.BIN", "manifest.json", "7/large.bin\0"]
    for path in elsewhere + not_files:
        answer = client.get(f"{URL}/{backup.id}/contents/document", query_string={"path": path})
        assert answer.status_code == 404, path
        assert "no such document" in answer.get_json()["detail"]


def test_a_folder_that_is_not_there_is_not_found(client: FlaskClient, backup: BackupHistory) -> None:
    for folder in ("nowhere", "..", "7/large.bin/x", "/"):
        assert client.get(f"{URL}/{backup.id}/contents/documents", query_string={"folder": folder}).status_code == 404


def test_a_search_finds_names_in_whatever_case_below_a_folder_only(client: FlaskClient, backup: BackupHistory) -> None:
    assert [item["name"] for item in listed(client, backup, search="invoice Ü")["items"]] == ["Invoice ü 2026.PDF"]
    assert listed(client, backup, search="invoice", folder="7/deep")["total"] == 1
    others = [item["path"] for item in listed(client, backup)["items"] if item["kind"] == "folder" and item["name"] != "7"]
    assert listed(client, backup, search="large.bin", folder=others[0])["total"] == 0
    assert listed(client, backup, search="deep")["total"] == 0


def test_the_list_comes_in_pages(client: FlaskClient, backup: BackupHistory) -> None:
    whole = [item["path"] for item in listed(client, backup, folder="7")["items"]]
    pages = [listed(client, backup, folder="7", page=number, page_size=2) for number in (1, 2, 3, 4)]
    assert [item["path"] for page in pages for item in page["items"]] == whole
    assert [page["total"] for page in pages] == [5, 5, 5, 5]


def test_a_wrong_query_is_named(client: FlaskClient, backup: BackupHistory) -> None:
    for query in ({"page_size": 101}, {"page": 0}, {"search": "x" * 201}, {"order": "size"}):
        answer = client.get(f"{URL}/{backup.id}/contents/documents", query_string=query)
        assert answer.status_code == 422
        assert list(answer.get_json()["errors"]) == list(query)


def test_who_may_only_read_sees_the_lists_and_no_document(client: FlaskClient, backup: BackupHistory, token: Token) -> None:
    reader = token("read")
    for part in ("contents", "contents/documents"):
        assert client.get(f"{URL}/{backup.id}/{part}", headers=reader).status_code == 200
    address = f"{URL}/{backup.id}/contents/document?path=7/large.bin"
    assert client.get(address, headers=reader).status_code == 403
    assert client.get(address, headers={"Authorization": ""}).status_code == 401


def test_a_head_request_leaves_no_file_and_no_lock_behind(
    client: FlaskClient, backup: BackupHistory, storage_dir: Path
) -> None:
    address = f"{URL}/{backup.id}/contents/document?path=7/large.bin"
    for _ in range(3):
        answer = client.head(address)
        assert (answer.status_code, answer.content_length) == (200, len(LARGE))
        answer.close()
    with client.get(address) as whole:
        assert whole.data == LARGE
    cut_short = client.get(address)
    assert next(cut_short.iter_encoded())
    cut_short.close()
    links = [Path(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")]
    assert not [link for link in links if link.is_symlink() and os.readlink(link) == str(storage_dir / str(backup.filename))]
    assert not locks.held([locks.archive_name(backup.id)])
