"""Archives that are changed behind our back: noticed, reported, relied on by nobody, and cleared when they are back."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from apiflask import APIFlask

from app.api.schemas.backups import BackupOut
from app.cli.backup_text import line
from app.config import Settings
from app.engine.planning import retention
from app.errors import DomainError
from app.extensions import db
from app.jobs import backup as backup_job
from app.jobs import verify as verify_job
from app.models import BackupHistory, Notification, utcnow
from app.runs import locks, verification_steps
from app.services.backups import archive_sweep, backups
from app.services.checkup import folders
from app.services.history import retention_plan
from app.services.inputs import SettingsInput
from app.services.installation import settings
from app.services.monitoring import attention, health, metrics
from app.services.recovery import rescan
from app.services.retention import cleanup
from app.services.retention import retention as explaining
from tests.support.application import TESTER

MakeRow = Callable[..., BackupHistory]


def cut(path: Path) -> None:
    os.truncate(path, 1)


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_link(path: Path) -> None:
    path.rename(path.with_name(f".{path.name}"))
    path.symlink_to(f".{path.name}")


CHANGES = [cut, grow, Path.unlink, replace_by_folder, replace_by_link]


def made_backup() -> BackupHistory:
    row_id = backups.start(TESTER).id
    backup_job.run(str(row_id))
    row = backups.get(row_id)
    assert row.status == "completed", row.error
    return row


def archives_check() -> health.Check:
    return next(check for check in health.checks() if check.name == "archives")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_is_changed_behind_our_back_is_told_everywhere_and_deletes_nothing(
    app: APIFlask, make_row: MakeRow, storage_dir: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    settings.update(TESTER, SettingsInput(keep_hourly=1, keep_daily=1, keep_weekly=0, keep_monthly=0))
    object.__setattr__(app.config["SETTINGS"], "smtp_url", "smtp://localhost")
    settings.update(TESTER, SettingsInput(recipients=["ops@example.com"]))
    newer, older = (make_row(verified_at=utcnow(), size_bytes=100_000) for _ in range(2))
    newer_id, older_id, name = newer.id, older.id, str(newer.filename)
    archive_sweep.sweep()
    assert archives_check().ok
    change(storage_dir / name)

    # At once, before any tick.
    assert backups.get(newer_id).damaged is None
    assert name in str(BackupOut.of(backups.get(newer_id)).damaged)
    assert "DAMAGED" in line(backups.get(newer_id))
    assert not archives_check().ok
    for refused in (lambda: backups.archive_file(newer_id), lambda: backups.verify(TESTER, newer_id)):
        with pytest.raises(DomainError, match=name):
            refused()
    report = cleanup.cleanup(TESTER)
    assert report is not None
    assert report.deleted == []
    assert report.missing + report.damaged == 1
    assert "protects nothing" in explaining.explain(newer_id).text
    assert any(name in finding.text and finding.level == "problem" for finding in folders.look(app.config["SETTINGS"]))
    assert any(
        name in finding.filename and finding.outcome in ("corrupt", "missing") for finding in rescan.rescan(TESTER).findings
    )

    for _ in range(3):
        archive_sweep.sweep()
    assert name in str(backups.get(newer_id).damaged)
    assert backups.get(older_id).damaged is None
    assert [row.event for row in db.session.query(Notification).all()] == ["damaged"], "one mail, once"
    assert b"backup_damaged 1.0" in metrics.text()
    assert cleanup.cleanup(TESTER).deleted == []  # type: ignore[union-attr]


def test_an_archive_that_was_cut_is_cleared_when_the_right_file_is_back_and_read_back(
    app: APIFlask, make_row: MakeRow, storage_dir: Path, tmp_path: Path
) -> None:
    make_row()
    row = made_backup()
    row_id, path = row.id, storage_dir / str(row.filename)
    archive_sweep.sweep()
    shutil.copy(path, tmp_path / "copy")
    cut(path)
    archive_sweep.sweep()
    assert backups.get(row_id).damaged
    # Of the right size, but not the right file.
    path.write_bytes(os.urandom(int(row.size_bytes or 0)))
    archive_sweep.sweep()
    assert backups.get(row_id).verify_requested_at is not None
    verify_job.run(str(row_id))
    assert "damaged" in str(backups.get(row_id).damaged)
    with pytest.raises(DomainError, match="damaged"):
        backups.archive_file(row_id)
    shutil.copy(tmp_path / "copy", path)
    archive_sweep.sweep()
    verify_job.run(str(row_id))
    found = backups.get(row_id)
    assert (found.damaged, found.error, found.verified_at is not None) == (None, None, True)
    assert backups.archive_file(row_id).path == path


def test_an_archive_that_is_rewritten_in_its_size_is_verified_again(app: APIFlask, storage_dir: Path) -> None:
    row = made_backup()
    row_id, path = row.id, storage_dir / str(row.filename)
    archive_sweep.sweep()
    assert backups.get(row_id).verified_at is not None
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    archive_sweep.sweep()
    row = backups.get(row_id)
    assert (row.verified_at, row.verify_requested_at is not None) == (None, True)
    verify_job.run(str(row_id))
    assert backups.get(row_id).damaged


def test_a_damaged_archive_is_read_once_not_each_minute_and_keeps_no_other_from_being_read(
    app: APIFlask, make_row: MakeRow, storage_dir: Path, tmp_path: Path
) -> None:
    older, row = made_backup().id, made_backup()
    row_id, path = row.id, storage_dir / str(row.filename)
    archive_sweep.sweep()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    archive_sweep.sweep()
    verify_job.run(str(row_id))
    found = str(backups.get(row_id).damaged)
    for _ in range(3):
        archive_sweep.sweep()
        assert (backups.get(row_id).damaged, backups.get(row_id).verify_requested_at) == (found, None)
    # Another one that changed has its turn although the newer one stays damaged.
    os.utime(storage_dir / str(backups.get(older).filename))
    archive_sweep.sweep()
    assert backups.get(older).verify_requested_at is not None
    verify_job.run(str(older))
    # Away and back as it was is still damaged.
    path.rename(tmp_path / "away")
    archive_sweep.sweep()
    assert "no longer" in str(backups.get(row_id).damaged)
    (tmp_path / "away").rename(path)
    archive_sweep.sweep()
    assert backups.get(row_id).damaged is not None
    assert backups.get(row_id).verify_requested_at is not None
    verify_job.run(str(row_id))
    # Only now and then it is tried again: a disk that could not be read may be readable by then.
    archive_sweep.sweep(utcnow() + timedelta(hours=23))
    assert backups.get(row_id).verify_requested_at is None
    archive_sweep.sweep(utcnow() + timedelta(hours=25))
    assert backups.get(row_id).verify_requested_at is not None


def test_a_storage_that_is_away_marks_nothing_and_one_that_was_partly_away_clears_itself(
    app: APIFlask, make_row: MakeRow, storage_dir: Path, tmp_path: Path
) -> None:
    ids = [make_row(verified_at=utcnow()).id for _ in range(5)]
    archive_sweep.sweep()
    storage_dir.rename(tmp_path / "elsewhere")
    storage_dir.mkdir()
    archive_sweep.sweep()
    assert all(backups.get(row_id).damaged is None for row_id in ids)
    assert "mounted" in archives_check().detail
    report = cleanup.cleanup(TESTER)
    assert report is not None
    assert report.deleted == []
    # A backup that is made into the empty mount point.
    fresh = make_row(verified_at=utcnow()).id
    archive_sweep.sweep()
    assert all(backups.get(row_id).damaged for row_id in ids)
    assert cleanup.cleanup(TESTER).deleted == []  # type: ignore[union-attr]
    for path in storage_dir.iterdir():
        path.rename(tmp_path / "elsewhere" / path.name)
    storage_dir.rmdir()
    (tmp_path / "elsewhere").rename(storage_dir)
    archive_sweep.sweep()
    for row_id in [*ids, fresh]:
        row = backups.get(row_id)
        assert (row.damaged, row.verified_at is not None, row.verify_requested_at) == (None, True, None)


def test_a_deletion_of_ours_is_no_damage(app: APIFlask, make_row: MakeRow, storage_dir: Path) -> None:
    make_row()
    row = make_row()
    row_id, name = row.id, str(row.filename)
    with locks.holding(locks.archive_name(row_id)):
        (storage_dir / name).unlink()
        archive_sweep.sweep()
    assert backups.get(row_id).damaged is None


def test_damaged_archives_change_nothing_for_the_others(app: APIFlask, make_row: MakeRow, storage_dir: Path) -> None:
    chance = random.Random(5)
    now = utcnow()
    ids: list[UUID] = []
    for number in range(40):
        started = now - timedelta(hours=number * chance.choice((1, 5, 30)))
        times = {"created_at": started, "started_at": started, "finished_at": started}
        verified = started if chance.random() < 0.6 else None
        ids.append(make_row(**times, verified_at=verified, pinned=chance.random() < 0.1).id)
    archive_sweep.sweep()
    whole = {candidate.id: candidate for candidate in retention_plan.current(now)[2].candidates}
    assert set(whole) == set(ids)
    rules = retention_plan.policy()
    names = {row_id: str(backups.get(row_id).filename) for row_id in ids}
    for _ in range(12):
        for row_id in chance.sample(sorted(whole), k=3):
            path = storage_dir / names[row_id]
            chance.choice((cut, grow, Path.unlink))(path)
            del whole[row_id]
        plan, _, stock = retention_plan.current(now)
        assert {*stock.missing, *stock.damaged} == set(ids) - set(whole)
        expected = retention.plan(whole.values(), rules.quotas, now)
        assert [entry.backup.id for entry in plan.deleted] == [entry.backup.id for entry in expected.deleted]
        verified = [entry for entry in whole.values() if entry.verified]
        if verified:
            assert plan.by_id[max(verified, key=lambda entry: entry.started_at).id].keep
        archive_sweep.sweep()
        again, _, stock = retention_plan.current(now)
        assert [entry.backup.id for entry in again.deleted] == [entry.backup.id for entry in expected.deleted]


def test_a_cleanup_stops_where_what_it_relies_on_goes_meanwhile(
    app: APIFlask, make_row: MakeRow, storage_dir: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = make_row(verified_at=utcnow())
    for number in range(30):
        moment = utcnow() - timedelta(minutes=number + 90)
        make_row(started_at=moment, created_at=moment)
    names = storage_dir / str(newest.filename)
    unlink, gone = Path.unlink, []

    def unlink_and_cut(path: Path, missing_ok: bool = False) -> None:
        if path.name.endswith(".tar.gz"):
            gone.append(path.name)
            os.truncate(names, 1)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_and_cut)
    report = cleanup.cleanup(TESTER)
    assert report is not None
    assert len(gone) == len(report.deleted) == 1
    assert "Nothing more was deleted" in report.trouble[0]


def test_a_backup_that_is_marked_is_not_the_last_good_one(app: APIFlask, make_row: MakeRow) -> None:
    good, bad = make_row(created_at=utcnow() - timedelta(days=1)).id, make_row(created_at=utcnow()).id
    archive_sweep.mark(bad, "cut short")
    db.session.commit()
    last = attention.newest_good()
    assert last is not None
    assert last.id == good
    assert verification_steps.request(bad, False)
