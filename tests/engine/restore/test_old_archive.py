"""An archive of format 1 that an earlier version made: it is verified, read, previewed and restored as on its first day."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from app.engine.archive.reader import open_archive, parse_index_line
from app.engine.proof.restore_test import RestoreTest, verify_by_restoring
from app.engine.restore.preview.preview import preview
from app.engine.restore.restore import restore
from app.engine.restore.swap import undo
from app.engine.verify.verify import verify_archive
from tests.support.archives import KEY, picture
from tests.support.databases import SourceDatabase, fresh_database, psql
from tests.support.dumping import dumped
from tests.support.restoring import Live

DATA = Path(__file__).resolve().parents[2] / "data"
ARCHIVE, SCHEMA = DATA / "format_1.tar.gz", DATA / "format_1.sql"
DEEP = "/".join(f"level {number:02} of a path that is long" for number in range(8))
CONTENTS = {
    "1/invoice.txt": b"Oil change, 2024-05-01\n",
    "1/empty.txt": b"",
    "Ünïcödé 表 🚗.txt": "é\n".encode(),
    "line\nbreak; 'quote' \"double\" \\.txt": b"x" * 513,
    os.fsdecode(b"not utf-8 \xff\xfe.bin"): bytes(range(256)),
    f"{DEEP}/bottom.txt": b"deep\n",
}
CHANGED_AT = 1_700_000_000


@pytest.fixture
def live(source_db_each: SourceDatabase, tmp_path: Path) -> Live:
    """A live pair on PostgreSQL 16 and 18 in turn: a database that shares one table with the archive, and one document."""
    source = source_db_each
    documents = tmp_path / "app" / "documents"
    documents.mkdir(parents=True)
    (documents / "later.txt").write_text("later")
    with psycopg.connect(source.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE vehicles (id integer, name text)")
        connection.execute("INSERT INTO vehicles VALUES (1, 'vehicle 1')")
    return Live(source.server, source.name, source.user, source.url, source.admin_url, documents, tmp_path / ".restores")


def test_it_is_verified() -> None:
    report = verify_archive(ARCHIVE, KEY)
    assert (report.problems, report.signed) == ([], True)
    assert report.manifest is not None
    assert (report.manifest.backup_id, report.manifest.app) == (UUID(int=1), "motovaultpro")
    assert not verify_archive(ARCHIVE, b"another key").signed


def test_its_tables_and_documents_are_read() -> None:
    with open_archive(ARCHIVE, KEY) as reader:
        tables = {(table.schema, table.name): table.rows for table in reader.manifest.tables}
        entries = [parse_index_line(line).entry for line in reader.index_lines()]
    assert tables == {("public", "Fuel; logs"): 3, ("public", "empty"): 0, ("public", "vehicles"): 100}
    sizes = {entry.path: entry.size for entry in entries if entry.kind == "file"}
    assert sizes == {path: len(content) for path, content in CONTENTS.items()}
    assert [(entry.path, entry.target) for entry in entries if entry.kind == "symlink"] == [("1/latest.txt", "invoice.txt")]
    assert {"hollow", "1", DEEP} <= {entry.path for entry in entries if entry.kind == "folder"}


def test_a_preview_says_what_it_would_change(live: Live) -> None:
    before = live.state()
    seen = preview(live.request(ARCHIVE), exact=True)
    assert seen.blockers == []
    assert (seen.ours, seen.signed, seen.version_backup) == (True, True, "16.14")
    rows = {table.name: (table.rows_now, table.rows_backup) for table in seen.tables}
    assert rows == {"vehicles": (1, 100), "Fuel; logs": (None, 3), "empty": (None, 0)}
    assert seen.documents is not None
    assert (seen.documents.files_now, seen.documents.files_backup) == (1, len(CONTENTS))
    assert live.state() == before


def test_it_is_restored_and_that_is_undone(live: Live) -> None:
    before = live.state()
    request = live.request(ARCHIVE)
    restore(request)

    with fresh_database(live.server) as url:
        psql(live.server.bin_dir, url, SCHEMA.read_bytes())
        wanted = dumped(live.server.bin_dir, url, "--no-owner")
    assert dumped(live.server.bin_dir, live.url, "--no-owner") == wanted
    found = picture(live.documents)
    contents = {os.fsdecode(path): content for path, (*_, content) in found.items() if content is not None}
    assert contents == CONTENTS | {"1/latest.txt": b"invoice.txt"}
    assert (live.documents / "hollow").is_dir()
    assert (live.documents / "1" / "invoice.txt").stat().st_mode & 0o777 == 0o600
    assert {int((live.documents / path).stat().st_mtime) for path in CONTENTS} == {CHANGED_AT}

    undo(live.state_dir, request.restore_id, live.source())
    assert live.state() == before


def test_it_is_proven_by_a_restore_into_a_scratch_database(live: Live) -> None:
    report = verify_by_restoring(RestoreTest(ARCHIVE, live.source(), KEY, uuid4()))
    assert (report.problems, report.tables, report.rows) == ([], 3, 103)
