"""Taking documents out of archives that are damaged, gone, forged, from elsewhere, or large."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.engine.archive.reader import ArchiveReader, open_archive
from app.engine.errors import ArchiveError
from app.http.document_response import disposition, safe_name
from app.models import BackupHistory
from app.services.backups import archive_index, contents
from tests.support.api_session import machine
from tests.support.foreign_archives import upload
from tests.support.restore_pages import foreign_archive, own_backup

URL = "/api/admin/backups"
Token = Callable[..., dict[str, str]]
LARGE = os.urandom(3 * 1024 * 1024)


@pytest.fixture
def client(app: APIFlask, token: Token) -> FlaskClient:
    """A machine with a token that may back up."""
    return machine(app, token("backup"))


@pytest.fixture
def backup(app: APIFlask, documents_dir: Path) -> BackupHistory:
    """A real archive with a document that fills most of it."""
    (documents_dir / "large.bin").write_bytes(LARGE)
    return own_backup(app)


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Overwrite some bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def refused(client: FlaskClient, address: str, status: int = 409) -> str:
    """Return the detail with which a request to an address is refused."""
    answer = client.get(address)
    assert answer.status_code == status, answer.text
    detail: str = answer.get_json()["detail"]
    return detail


def test_a_damaged_document_is_refused_before_any_of_it_is_sent(
    client: FlaskClient, backup: BackupHistory, storage_dir: Path
) -> None:
    path = storage_dir / str(backup.filename)
    at = path.read_bytes().index(LARGE[:64])
    overwrite(path, at + 1_000_000, b"not as it was")
    address = f"{URL}/{backup.id}/contents/document"
    assert "damaged" in refused(client, f"{address}?path=large.bin")
    assert "restore from another one" in refused(client, f"{address}?path=large.bin")
    assert client.get(f"{address}?path=1/invoice-0.txt").status_code == 200


def test_a_large_damaged_document_is_cut_off_before_its_end(
    backup: BackupHistory, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "CHECKED_FIRST_BYTES", 0)
    path = storage_dir / str(backup.filename)
    with open_archive(path) as reader:
        line = archive_index.find(reader, "large.bin")
        assert line is not None
        forged = archive_index.parse_index_line(json.dumps({**line_facts(reader, "large.bin"), "sha256": "0" * 64}).encode())
        sent = []
        with pytest.raises(ArchiveError, match="SHA-256"):
            sent += archive_index.content(reader, forged)
    assert sum(map(len, sent)) < len(LARGE)


def line_facts(reader: ArchiveReader, path: str) -> dict[str, Any]:
    """Return the raw index line of a path in an open archive."""
    lines = (json.loads(line) for line in reader.index_lines())
    return next(facts for facts in lines if facts["path"] == path)


@pytest.mark.parametrize(
    "change",
    [{"skip": 1 << 60}, {"skip": -1}, {"size": -5}, {"sha256": 'a"\r\nX: y'}, {"sha256": ""}, {"size": 1 << 61},
     {"member": -1}, {"member": 1 << 60}, {"member": 3}],
)  # fmt: skip
def test_an_index_that_says_what_can_not_be_is_refused(
    client: FlaskClient, backup: BackupHistory, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    true_lines = ArchiveReader.index_lines

    def forged_lines(reader: ArchiveReader) -> Any:
        for line in true_lines(reader):
            facts = json.loads(line)
            yield json.dumps({**facts, **change}).encode() if facts["path"] == "large.bin" else line

    monkeypatch.setattr(ArchiveReader, "index_lines", forged_lines)
    monkeypatch.setattr(contents, "CHECKED_FIRST_BYTES", 1 << 62)
    assert "damaged" in refused(client, f"{URL}/{backup.id}/contents/document?path=large.bin")


def test_an_archive_that_was_cut_short_says_so(client: FlaskClient, backup: BackupHistory, storage_dir: Path) -> None:
    path = storage_dir / str(backup.filename)
    os.truncate(path, path.stat().st_size - 100)
    for part in ("contents", "contents/documents", "contents/document?path=large.bin"):
        detail = refused(client, f"{URL}/{backup.id}/{part}")
        assert "truncated" in detail
        assert "Put the right file back" in detail


def test_a_damaged_index_says_so(client: FlaskClient, backup: BackupHistory, storage_dir: Path) -> None:
    path = storage_dir / str(backup.filename)
    with open_archive(path) as reader:
        offset = reader.manifest.documents.index_offset
    overwrite(path, offset + 600, os.urandom(40))
    assert "damaged" in refused(client, f"{URL}/{backup.id}/contents/documents")
    assert client.get(f"{URL}/{backup.id}/contents").status_code == 200


def test_an_archive_that_is_gone_says_so(client: FlaskClient, backup: BackupHistory, storage_dir: Path) -> None:
    (storage_dir / str(backup.filename)).unlink()
    for part in ("contents", "contents/documents", "contents/document?path=large.bin"):
        assert "no longer in the storage folder" in refused(client, f"{URL}/{backup.id}/{part}", 404)


def test_an_archive_from_elsewhere_has_no_index_and_says_what_to_do(
    client: FlaskClient, app: APIFlask, tmp_path: Path
) -> None:
    content = foreign_archive(tmp_path)
    row = upload(content)
    for part in ("contents", "contents/documents", "contents/document?path=one.txt"):
        assert "Download the whole archive" in refused(client, f"{URL}/{row.id}/{part}")


def test_a_backup_that_did_not_complete_has_no_contents(client: FlaskClient, make_row: Callable[..., BackupHistory]) -> None:
    assert "no archive" in refused(client, f"{URL}/{make_row('failed').id}/contents")


def test_a_document_larger_than_memory_should_hold_streams_in_parts(
    app: APIFlask, documents_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 200 * 1024 * 1024
    with (documents_dir / "huge").open("wb") as file:
        file.truncate(size)
    row = own_backup(app)
    document = contents.open_document(row.id, "huge")
    tracemalloc.start()
    try:
        received = sum(len(part) for part in document)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        document.close()
    assert received == size
    assert peak < 20 * 1024 * 1024


def test_names_are_made_safe_for_every_file_system_and_header() -> None:
    assert safe_name("invoice.pdf") == "invoice.pdf"
    assert safe_name("../../etc/passwd") == "_.._etc_passwd"
    assert safe_name('a"b\r\nSet-Cookie: x=1') == "a_b__Set-Cookie_ x=1"
    assert safe_name("evil\u202egpj.exe") == "evil_gpj.exe"
    assert safe_name(" .hidden. ") == "hidden"
    assert safe_name("..") == safe_name("") == "document"
    assert safe_name("C:\\windows\\x") == "C__windows_x"
    assert safe_name("a" * 300 + ".pdf") == "a" * 176 + ".pdf"
    assert len(safe_name("ü" * 300).encode()) <= 180
    assert safe_name(os.fsdecode(b"caf\xe9.txt")) == "caf\ufffd.txt"
    assert disposition("счёт.pdf").startswith('attachment; filename="pdf"; filename*=UTF-8')
    assert "\n" not in disposition("a\nb")
