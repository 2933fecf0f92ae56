"""The history rebuilt from the archives."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from apiflask import APIFlask
from sqlalchemy import delete

from app.config import Settings
from app.engine.archive.gzip_members import FOOTER_SIZE
from app.engine.archive.reader import read_manifest
from app.extensions import db
from app.models import BackupHistory
from app.services.audit import audit
from app.services.backups import backups
from app.services.recovery import rescan
from tests.support.application import TESTER, finished
from tests.support.foreign_archives import made_by_hand
from tests.support.live_state import publish

FIGURES = tuple(
    "filename size_bytes sha256 kind started_at finished_at warnings summary note bytes_done bytes_total status".split()  # noqa: SIM905
)


def test_an_emptied_history_gets_every_archive_again_with_the_same_figures(
    app: APIFlask, worker: subprocess.Popen[bytes], documents_dir: Path
) -> None:
    (documents_dir / "outside").symlink_to("/etc/hostname")
    rows = [finished(backups.start(TESTER, note=f"number {number}")) for number in range(2)]
    before = {row.id: {name: getattr(row, name) for name in FIGURES} for row in rows}
    assert all(row["warnings"] for row in before.values()), "the symlink out of the tree is reported"
    db.session.execute(delete(BackupHistory))
    db.session.commit()
    report = rescan.rescan(TESTER)
    assert [finding.outcome for finding in report.findings] == ["added", "added"]
    after = {row.id: row for row in backups.list_backups().items}
    assert {key: {name: getattr(row, name) for name in FIGURES} for key, row in after.items()} == before
    assert all(row.pinned and row.verified_at for row in after.values())
    assert [finding.outcome for finding in rescan.rescan(TESTER).findings] == ["known", "known"]


def test_what_is_damaged_is_reported_by_name_and_not_listed(app: APIFlask, settings: Settings, storage_dir: Path) -> None:
    good, bad, cut = (publish(settings).path for _ in range(3))
    data = bytearray(bad.read_bytes())
    data[600] ^= 1
    bad.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-FOOTER_SIZE])
    stranger = storage_dir / "motovaultpro_backup_20200101_000000.tar.gz"
    stranger.write_bytes(b"no archive at all")
    found = {finding.filename: finding for finding in rescan.rescan(TESTER).findings}
    assert {name: finding.outcome for name, finding in found.items()} == {
        good.name: "added",
        bad.name: "corrupt",
        cut.name: "corrupt",
        stranger.name: "corrupt",
    }
    assert all(found[path.name].detail for path in (bad, cut, stranger))
    assert [row.filename for row in backups.list_backups().items] == [good.name]


def test_uploads_from_elsewhere_are_listed_again_as_such(app: APIFlask, settings: Settings, storage_dir: Path) -> None:
    good = publish(settings).path
    other_key = publish(settings, b"the key of another installation", read_manifest(good).backup_id).path
    foreign = storage_dir / "motovaultpro_backup_20200101_000000.tar.gz"
    foreign.write_bytes(made_by_hand())
    os.utime(foreign, (1_600_000_000, 1_600_000_000))
    found = {finding.filename: finding for finding in rescan.rescan(TESTER).findings}
    assert {finding.outcome for finding in found.values()} == {"added"}
    assert "BACKUP_SIGNING_KEY" in found[other_key.name].detail
    assert "untrusted" in found[foreign.name].detail
    rows = {str(row.filename): row for row in backups.list_backups().items}
    facts = {name: (row.kind, row.origin, row.status, row.pinned) for name, row in rows.items()}
    assert facts[good.name] == ("manual", "own", "completed", True)
    assert facts[other_key.name] == ("uploaded", "other_key", "completed", True)
    assert facts[foreign.name] == ("uploaded", "foreign", "completed", True)
    assert rows[foreign.name].summary["rows"] == 2
    assert rows[foreign.name].started_at == datetime.fromtimestamp(1_600_000_000, UTC)
    assert {finding.outcome for finding in rescan.rescan(TESTER).findings} == {"known"}


def test_an_archive_becomes_ours_when_the_signing_key_is_back(app: APIFlask, settings: Settings) -> None:
    path = publish(settings, b"the old machine's key").path
    rescan.rescan(TESTER)
    object.__setattr__(settings, "signing_key_text", "the old machine's key")
    assert [(f.outcome, "fits" in f.detail) for f in rescan.rescan(TESTER).findings] == [("known", True)]
    assert [(row.filename, row.origin) for row in backups.list_backups().items] == [(path.name, "own")]


def test_a_second_copy_and_a_missing_file_are_reported(app: APIFlask, settings: Settings, storage_dir: Path) -> None:
    path = publish(settings).path
    rescan.rescan(TESTER)
    copy = storage_dir / "motovaultpro_backup_20200101_000000.tar.gz"
    copy.write_bytes(path.read_bytes())
    assert {f.filename: f.outcome for f in rescan.rescan(TESTER).findings} == {path.name: "known", copy.name: "duplicate"}
    path.unlink()
    missing = rescan.rescan(TESTER).of("missing")
    assert [finding.filename for finding in missing] == [path.name]
    assert audit.list_entries(action="backup.rescan").total == 3


def test_a_row_that_was_given_up_is_completed_by_its_archive(app: APIFlask, settings: Settings) -> None:
    result = publish(settings)
    row = BackupHistory(id=result.manifest.backup_id, kind="manual", status="failed", error="The worker was lost.")
    db.session.add(row)
    db.session.commit()
    rescan.rescan(TESTER)
    assert (backups.get(row.id).status, backups.get(row.id).error) == ("completed", None)


def test_a_folder_that_is_not_there_yet_holds_nothing(app: APIFlask, storage_dir: Path) -> None:
    storage_dir.rmdir()
    assert rescan.rescan(TESTER).findings == []
