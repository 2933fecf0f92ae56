"""Uploading an archive from its page."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path

import pytest
from apiflask import APIFlask

from app.services.backups import backups
from tests.support import hostile
from tests.support.browser import Browser, Page
from tests.support.foreign_archives import check_all
from tests.support.restore_pages import foreign_archive
from tests.support.upload_pages import PAGE, upload, uploaded

SCRIPT = {"X-Requested-With": "XMLHttpRequest"}


def partials(storage_dir: Path) -> list[str]:
    """Return what lies about in the storage folder besides archives."""
    return [path.name for path in storage_dir.iterdir() if path.name.startswith(".") and path.is_file()]


def test_an_uploaded_archive_has_its_page_pinned_checked_and_untrusted(admin: Browser, tmp_path: Path) -> None:
    answer = upload(admin, foreign_archive(tmp_path))
    assert answer.status_code == 303, answer.text
    page = admin.get(answer.location or "")
    for expected in ("In progress", "Received; waiting to be checked", "Cancel this upload", "Reload to see the progress"):
        assert expected in page.text
    assert "Watch or cancel this upload" in admin.get("/backups/").text
    check_all()
    page = admin.get(answer.location or "")
    for expected in ("Completed", "Pinned", "Uploaded", "This archive is not signed.", "trust it…"):
        assert expected in page.text
    assert "Verify by restoring" not in page.text


def test_the_script_is_told_the_page_instead_of_being_led_there(admin: Browser, tmp_path: Path) -> None:
    answer = upload(admin, foreign_archive(tmp_path), SCRIPT)
    row = backups.list_backups().items[0]
    assert (answer.status_code, answer.location) == (202, f"/backups/{row.id}")


def test_a_refused_archive_is_told_at_its_field_and_announced(admin: Browser) -> None:
    page = Page(upload(admin, b""))
    (field,) = page.select("input", name="archive")
    assert field.get("aria-invalid") == "true"
    told = page.by_id("upload-error")
    assert told
    assert "upload-error" in (field.get("aria-describedby") or "").split()
    assert page.select("div", role="alert", id="upload-error")


def test_the_same_archive_again_leads_to_the_first(admin: Browser, tmp_path: Path, storage_dir: Path) -> None:
    content = foreign_archive(tmp_path)
    first = uploaded(admin, content)
    refused = upload(admin, content)
    assert refused.status_code == 409
    page = Page(refused)
    assert "already exists" in page.by_id("upload-error")
    assert page.select("a", href=first)
    assert backups.list_backups().total == 1
    assert not partials(storage_dir)


def test_a_file_that_is_no_archive_is_refused_with_the_reason(admin: Browser, storage_dir: Path) -> None:
    page = admin.get(uploaded(admin, b"no archive at all"))
    for expected in ("Failed", "This archive was refused.", "was refused", "Upload another archive"):
        assert expected in page.text
    assert not partials(storage_dir)


def test_a_form_without_a_chosen_file_is_answered_with_what_to_do(admin: Browser, storage_dir: Path) -> None:
    action = admin.get(PAGE).select("form", enctype="multipart/form-data")[0].get("action", "")
    head = b'Content-Disposition: form-data; name="archive"; filename=""\r\nContent-Type: application/octet-stream'
    body = b"--B\r\n" + head + b"\r\n\r\n\r\n--B--\r\n"
    refused = admin.open("POST", action, data=body, content_type="multipart/form-data; boundary=B")
    assert refused.status_code == 422
    assert "choose the archive" in Page(refused).by_id("upload-error")
    assert not partials(storage_dir)


def test_a_damaged_archive_is_refused(admin: Browser, tmp_path: Path, storage_dir: Path) -> None:
    path = uploaded(admin, foreign_archive(tmp_path)[:-200])
    assert "This archive was refused." in admin.get(path).text
    assert not partials(storage_dir)


def test_what_is_larger_than_allowed_is_refused_before_it_is_read(admin: Browser, app: APIFlask) -> None:
    app.config["SETTINGS"] = replace(app.config["SETTINGS"], upload_max_bytes=1_000_000)
    page = admin.get(PAGE)
    assert "At most 1 MB" in page.text
    assert page.select("form", data_largest="1000000")
    refused = upload(admin, bytes(1_100_000))
    assert refused.status_code == 413
    assert "larger than the 1,000,000 bytes" in Page(refused).by_id("upload-error")


def test_an_archive_longer_than_a_form_may_be_is_taken_in(admin: Browser, tmp_path: Path) -> None:
    members = [hostile.dump_member(hostile.dump_of()), hostile.entry("documents/noise", os.urandom(3_000_000))]
    content = hostile.write_archive(tmp_path / "large.tar.gz", members).read_bytes()
    assert len(content) > 2_500_000
    assert upload(admin, content).status_code == 303


@pytest.mark.parametrize("token", [None, "", "made up"])
def test_nothing_is_taken_without_the_page_s_token(
    admin: Browser, tmp_path: Path, storage_dir: Path, token: str | None
) -> None:
    query = "" if token is None else f"?upload_token={token}"
    data = {"archive": (io.BytesIO(foreign_archive(tmp_path)), "a.tar.gz")}
    assert admin.open("POST", PAGE + query, data=data, content_type="multipart/form-data").status_code == 400
    assert backups.list_backups().total == 0
    assert not list(storage_dir.glob("*.tar.gz"))


def test_the_token_of_another_form_does_not_open_the_upload(admin: Browser, tmp_path: Path) -> None:
    other = admin.get("/backups/").form("/backups/")["csrf_token"]
    data = {"archive": (io.BytesIO(foreign_archive(tmp_path)), "a.tar.gz")}
    answer = admin.open("POST", f"{PAGE}?upload_token={other}", data=data, content_type="multipart/form-data")
    assert answer.status_code == 400


def test_only_admins_see_the_form_and_send_it(visitor: Browser, tmp_path: Path) -> None:
    assert visitor.redirected(PAGE).startswith("/login?next=")
    data = {"archive": (io.BytesIO(foreign_archive(tmp_path)), "a.tar.gz")}
    answer = visitor.open("POST", PAGE, data=data, content_type="multipart/form-data")
    assert answer.status_code == 302
    assert backups.list_backups().total == 0
