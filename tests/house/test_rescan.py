"""The history rebuilt from the archives."""

from __future__ import annotations

import subprocess
from pathlib import Path

from apiflask import APIFlask
from sqlalchemy import delete

from app import engine
from app.config import Settings
from app.extensions import db
from app.models import BackupHistory
from app.services import audit, backups
from tests.house.fixtures import TESTER, finished
from tests.house.test_reconcile import publish

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
    report = backups.rescan(TESTER)
    assert [finding.outcome for finding in report.findings] == ["added", "added"]
    after = {row.id: row for row in backups.list_backups().items}
    assert {key: {name: getattr(row, name) for name in FIGURES} for key, row in after.items()} == before
    assert all(row.pinned and row.verified_at for row in after.values())
    assert [finding.outcome for finding in backups.rescan(TESTER).findings] == ["known", "known"]


def test_what_is_not_ours_or_damaged_is_reported_and_not_listed(
    app: APIFlask, settings: Settings, storage_dir: Path
) -> None:
    good, bad = publish(settings).path, publish(settings).path
    data = bytearray(bad.read_bytes())
    data[600] ^= 1
    bad.write_bytes(data)
    stranger = storage_dir / "motovaultpro_backup_20200101_000000.tar.gz"
    stranger.write_bytes(b"no archive at all")
    foreign = engine.make_backup(
        engine.BackupRequest(
            source=backups.source(settings),
            storage_dir=storage_dir,
            signing_key=b"the key of another installation",
            backup_id=engine.read_manifest(good).backup_id,
        )
    ).path
    found = {finding.filename: finding for finding in backups.rescan(TESTER).findings}
    assert found[good.name].outcome == "added"
    assert found[bad.name].outcome == "corrupt"
    assert found[stranger.name].outcome == "foreign"
    assert found[foreign.name].outcome == "foreign"
    assert "BACKUP_SIGNING_KEY" in found[foreign.name].detail
    assert [row.filename for row in backups.list_backups().items] == [good.name]


def test_a_second_copy_and_a_missing_file_are_reported(app: APIFlask, settings: Settings, storage_dir: Path) -> None:
    path = publish(settings).path
    backups.rescan(TESTER)
    copy = storage_dir / "motovaultpro_backup_20200101_000000.tar.gz"
    copy.write_bytes(path.read_bytes())
    assert {f.filename: f.outcome for f in backups.rescan(TESTER).findings} == {path.name: "known", copy.name: "duplicate"}
    path.unlink()
    missing = backups.rescan(TESTER).of("missing")
    assert [finding.filename for finding in missing] == [path.name]
    assert audit.list_entries(action="backup.rescan").total == 3


def test_a_row_that_was_given_up_is_completed_by_its_archive(app: APIFlask, settings: Settings) -> None:
    result = publish(settings)
    row = BackupHistory(id=result.manifest.backup_id, kind="manual", status="failed", error="The worker was lost.")
    db.session.add(row)
    db.session.commit()
    backups.rescan(TESTER)
    assert (backups.get(row.id).status, backups.get(row.id).error) == ("completed", None)


def test_a_folder_that_is_not_there_yet_holds_nothing(app: APIFlask, storage_dir: Path) -> None:
    storage_dir.rmdir()
    assert backups.rescan(TESTER).findings == []
