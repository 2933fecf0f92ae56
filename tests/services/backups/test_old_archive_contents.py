"""What an archive that an earlier version made holds, as the pages and the API show it."""

from __future__ import annotations

import shutil
from pathlib import Path

from apiflask import APIFlask

from app.config import Settings
from app.services.backups import backups, contents
from app.services.recovery import rescan
from tests.support.application import TESTER
from tests.support.archives import KEY

ARCHIVE = Path(__file__).resolve().parents[2] / "data" / "format_1.tar.gz"


def test_an_old_archive_is_found_and_its_contents_are_shown(app: APIFlask, settings: Settings, storage_dir: Path) -> None:
    object.__setattr__(settings, "signing_key_text", KEY.decode())
    shutil.copyfile(ARCHIVE, storage_dir / "motovaultpro_backup_20240501_030000.tar.gz")
    assert [finding.outcome for finding in rescan.rescan(TESTER).findings] == ["added"]
    [row] = backups.list_backups().items
    assert (row.status, row.origin, row.size_bytes) == ("completed", "own", ARCHIVE.stat().st_size)
    assert [(table.name, table.rows) for table in contents.look(row.id).tables] == [
        ("Fuel; logs", 3),
        ("empty", 0),
        ("vehicles", 100),
    ]
    assert [entry.name for entry in contents.documents(row.id, "1").page.items] == ["empty.txt", "invoice.txt", "latest.txt"]
    document = contents.open_document(row.id, "1/invoice.txt")
    try:
        assert b"".join(document) == b"Oil change, 2024-05-01\n"
    finally:
        document.close()
