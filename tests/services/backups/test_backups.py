"""Backups made by a real worker from a real database."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from apiflask import APIFlask

from app.config import Settings
from app.engine.storage.local import LocalStorage
from app.engine.verify.verify import verify_archive
from app.errors import Conflict
from app.models import BackupHistory
from app.runs import ledger, locks
from app.services.backups import backups
from app.services.recovery import backup_recovery
from tests.support.application import TESTER, finished, make_sparse, wait_for
from tests.support.databases import SourceDatabase

MakeRow = Callable[..., BackupHistory]
Worker = subprocess.Popen[bytes]


def test_a_backup_is_made_verified_and_listed(app: APIFlask, worker: Worker, settings: Settings, storage_dir: Path) -> None:
    row = finished(backups.start(TESTER, note="the first"))
    assert (row.status, row.error, row.attempt) == ("completed", None, 1)
    path = storage_dir / str(row.filename)
    report = verify_archive(path, settings.signing_key)
    assert report.ok
    assert report.signed
    assert (row.sha256, row.size_bytes) == (report.sha256, path.stat().st_size)
    assert report.manifest is not None
    assert report.manifest.labels == {"note": "the first"}
    assert row.summary["rows"] == 1000
    assert row.verified_at is not None
    assert LocalStorage(storage_dir).partials() == []
    assert backups.progress(row).percent == 100


def test_a_source_that_is_down_fails_the_backup_with_the_reason(
    app: APIFlask, worker: Worker, source_db: SourceDatabase
) -> None:
    with psycopg.connect(source_db.server.url("postgres"), autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{source_db.name}" WITH ALLOW_CONNECTIONS false')
    row = finished(backups.start(TESTER))
    assert row.status == "failed"
    assert "BACKUP_SOURCE_URL" in str(row.error)
    assert source_db.password not in str(row.error)


def test_a_running_backup_is_cancelled_and_leaves_nothing(
    app: APIFlask, worker: Worker, documents_dir: Path, storage_dir: Path
) -> None:
    make_sparse(documents_dir / "large", 6 << 30)
    row = backups.start(TESTER)
    wait_for(lambda: backups.get(row.id).phase == "documents")
    assert backups.cancel(TESTER, row.id).cancel_requested_at is not None
    row = finished(row, 20)
    assert (row.status, row.error) == ("cancelled", None)
    assert list(storage_dir.iterdir()) == []


def test_a_second_backup_waits_for_the_first_and_then_runs(
    app: APIFlask, worker: Worker, make_row: MakeRow, storage_dir: Path
) -> None:
    with locks.holding(locks.WRITER) as lock:
        assert lock is not None
        row = backups.start(TESTER)
        wait_for(lambda: backups.get(row.id).phase == ledger.WAITING)
        time.sleep(0.5)
        assert backups.get(row.id).status == "queued"
    backup_recovery.enqueue_waiting()
    assert finished(row).status == "completed"


def test_two_backups_of_different_kinds_are_made_one_after_the_other(
    app: APIFlask, worker: Worker, processes: object, storage_dir: Path
) -> None:
    processes.start("worker", "--queue", "backups")  # type: ignore[attr-defined]
    first = backups.start(TESTER)
    second = ledger.backups.open("tests", kind="safety")
    backups.db.session.commit()
    backups.queue.enqueue("backups", backups.queue.BACKUP_JOB, second.id, str(second.job_id))
    rows = [finished(first), finished(second)]
    assert [row.status for row in rows] == ["completed", "completed"]
    assert rows[0].filename != rows[1].filename
    assert len(LocalStorage(storage_dir).archives()) == 2


def test_a_second_manual_backup_is_refused_while_one_runs(app: APIFlask, make_row: MakeRow) -> None:
    running = make_row("in_progress")
    with pytest.raises(Conflict) as caught:
        backups.start(TESTER)
    assert caught.value.extra["id"] == str(running.id)
    assert "running" in caught.value.detail


def test_of_many_that_start_at_once_one_gets_it(app: APIFlask) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def start(_: int) -> str:
        with app.app_context():
            try:
                return str(backups.start(TESTER).id)
            except Conflict as error:
                return str(error.extra["id"])

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(start, range(16)))
    assert len(ids) == 1
    assert backups.list_backups().total == 1


def test_an_archive_is_verified_again(app: APIFlask, worker: Worker) -> None:
    row = finished(backups.start(TESTER))
    before = row.verified_at
    backups.verify(TESTER, row.id)
    wait_for(lambda: backups.get(row.id).verify_requested_at is None)
    row = backups.get(row.id)
    assert row.error is None
    assert row.verified_at is not None
    assert before is not None
    assert row.verified_at > before


def test_a_flipped_byte_is_found_and_said(app: APIFlask, worker: Worker, storage_dir: Path) -> None:
    row = finished(backups.start(TESTER))
    path = storage_dir / str(row.filename)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    backups.verify(TESTER, row.id)
    wait_for(lambda: backups.get(row.id).verify_requested_at is None)
    row = backups.get(row.id)
    assert row.verified_at is None
    assert str(row.error).startswith("The archive is damaged")


def test_an_archive_that_is_read_is_not_deleted(app: APIFlask, make_row: MakeRow, storage_dir: Path) -> None:
    row = make_row()
    with locks.holding(locks.archive_name(row.id), shared=True):
        with pytest.raises(Conflict, match="is in use"):
            backups.delete(TESTER, row.id)
    assert (storage_dir / str(row.filename)).exists()
    backups.delete(TESTER, row.id)
    assert not (storage_dir / str(row.filename)).exists()
