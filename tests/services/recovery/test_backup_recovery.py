"""Workers killed, jobs forgotten, files left behind: what the tick and the worker mend."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg
import pytest
from apiflask import APIFlask
from rq import Queue
from rq.job import JobStatus

from app.config import Settings
from app.models import BackupHistory, utcnow
from app.runs import ledger, locks, queue
from app.services.backups import backups
from app.services.recovery import backup_recovery
from app.services.recovery.backup_recovery import HUNG, LOST, SILENT
from tests.support.application import TESTER, Processes, finished, make_sparse, wait_for
from tests.support.live_state import publish

MakeRow = Callable[..., BackupHistory]
Worker = subprocess.Popen[bytes]


def partial_of(storage_dir: Path, backup_id: uuid.UUID) -> Path:
    """Leave a partial file of a backup's first attempt behind."""
    path = storage_dir / f".{backup_id}.1.partial"
    path.write_bytes(b"half")
    return path


def silent(make_row: MakeRow, silent_for: timedelta, **columns: object) -> BackupHistory:
    """Add a running backup whose last heartbeat is that long ago."""
    return make_row("in_progress", attempt=1, heartbeat_at=utcnow() - silent_for, **columns)


def is_started(row_id: uuid.UUID) -> bool:
    """Return whether a worker's child runs a backup's job, which is a moment after the worker took it."""
    job = queue.QueuedJob.fetch(f"backup-{row_id}", connection=queue.connection())
    return job.get_status() == JobStatus.STARTED and job.last_heartbeat is not None


def waiting_jobs() -> list[str]:
    """Return the ids of the jobs in line."""
    return Queue(queue.BACKUPS, connection=queue.connection()).get_job_ids()


def test_a_killed_horse_is_closed_at_once_and_the_next_backup_works(
    app: APIFlask, worker: Worker, documents_dir: Path, storage_dir: Path
) -> None:
    make_sparse(documents_dir / "large", 6 << 30)
    row = backups.start(TESTER)
    wait_for(lambda: backups.get(row.id).phase == "documents")
    (horse,) = [child for child in psutil.Process(worker.pid).children() if child.status() != psutil.STATUS_ZOMBIE]
    os.kill(horse.pid, signal.SIGKILL)
    row = finished(row, 10)
    assert (row.status, row.error) == ("failed", LOST)
    wait_for(lambda: list(storage_dir.iterdir()) == [], 10)
    (documents_dir / "large").unlink()
    assert finished(backups.start(TESTER)).status == "completed"


def test_a_worker_killed_with_its_horse_is_mended_by_the_tick(
    app: APIFlask,
    worker: Worker,
    processes: Processes,
    documents_dir: Path,
    storage_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backup_recovery, "SILENT", timedelta(seconds=4))
    make_sparse(documents_dir / "large", 6 << 30)
    row = backups.start(TESTER)
    wait_for(lambda: backups.get(row.id).phase == "documents")
    parent = psutil.Process(worker.pid)
    family = [parent, *parent.children(recursive=True)]  # the parent first, or it may note its child's end
    for process in family:
        process.kill()
    psutil.wait_procs(family, timeout=10)
    backup_recovery.reconcile()
    assert backups.get(row.id).status == "in_progress", "a heartbeat that young may be a database that restarted"
    wait_for(lambda: utcnow() - (backups.get(row.id).heartbeat_at or utcnow()) > backup_recovery.SILENT)
    backup_recovery.reconcile()
    row = backups.get(row.id)
    assert (row.status, row.error) == ("failed", LOST)
    assert list(storage_dir.iterdir()) == []
    (documents_dir / "large").unlink()
    processes.start("worker", "--queue", "backups")
    assert finished(backups.start(TESTER)).status == "completed"


def test_a_living_worker_is_left_alone(app: APIFlask, make_row: MakeRow, storage_dir: Path) -> None:
    row = silent(make_row, SILENT * 2)
    partial = partial_of(storage_dir, row.id)
    with locks.holding(locks.run_name(row.id)):
        backup_recovery.reconcile()
    assert backups.get(row.id).status == "in_progress"
    assert partial.exists()


def test_a_worker_that_hangs_is_given_up(app: APIFlask, make_row: MakeRow, storage_dir: Path) -> None:
    row = silent(make_row, HUNG * 2)
    partial = partial_of(storage_dir, row.id)
    with locks.holding(locks.run_name(row.id)):
        backup_recovery.reconcile()
    assert backups.get(row.id).status == "failed"
    assert not partial.exists()


def test_a_lost_run_that_was_to_be_cancelled_is_cancelled(app: APIFlask, make_row: MakeRow) -> None:
    row = silent(make_row, SILENT * 2, cancel_requested_at=utcnow())
    backup_recovery.reconcile()
    assert backups.get(row.id).status == "cancelled"


def test_a_run_lost_after_publication_is_completed(app: APIFlask, settings: Settings, make_row: MakeRow) -> None:
    result = publish(settings)
    row = silent(make_row, SILENT * 2, id=result.manifest.backup_id, started_at=result.started_at)
    backup_recovery.reconcile()
    row = backups.get(row.id)
    assert (row.status, row.filename, row.sha256) == ("completed", result.filename, result.sha256)
    assert row.verified_at is not None


def test_a_damaged_archive_of_a_lost_run_never_completes_it(app: APIFlask, settings: Settings, make_row: MakeRow) -> None:
    result = publish(settings)
    data = bytearray(result.path.read_bytes())
    data[600] ^= 1
    result.path.write_bytes(data)
    row = silent(make_row, SILENT * 2, id=result.manifest.backup_id, started_at=result.started_at)
    backup_recovery.reconcile()
    assert backups.get(row.id).status == "failed"


def test_a_job_that_redis_forgot_is_enqueued_again(app: APIFlask, processes: Processes, make_row: MakeRow) -> None:
    row = make_row("queued", enqueued_at=utcnow() - timedelta(minutes=2))
    queue.connection().flushdb()
    backup_recovery.reconcile()
    assert queue.knows(queue.BACKUPS, f"backup-{row.id}")
    backup_recovery.reconcile()
    assert queue.connection().llen("rq:queue:backups") == 1
    processes.start("worker", "--queue", "backups")
    assert finished(row).status == "completed"


def test_a_job_killed_before_it_reached_its_row_is_enqueued_again(
    app: APIFlask, processes: Processes, worker: Worker, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup_recovery, "IN_TRANSIT", timedelta(seconds=1))
    with psycopg.connect(settings.metadata_dsn) as holder:
        row = backups.start(TESTER)
        row_id = row.id
        # The job can't claim its row while we hold it.
        holder.execute("SELECT 1 FROM backup_history WHERE id = %s FOR UPDATE", [row_id])
        wait_for(lambda: is_started(row_id))
        parent = psutil.Process(worker.pid)
        family = [parent, *parent.children(recursive=True)]
        for process in family:  # the parent first, or it may note its child's end, and the job is known to be lost at once
            process.kill()
        psutil.wait_procs(family, timeout=10)
    time.sleep(1.5)
    backup_recovery.reconcile()
    assert waiting_jobs() == [], "a heartbeat that young may be that of a living worker"
    monkeypatch.setattr(queue, "HEARTBEAT_GRACE", timedelta(seconds=1))
    backup_recovery.reconcile()
    assert waiting_jobs() == [f"backup-{row_id}"]
    processes.start("worker", "--queue", "backups")
    assert finished(row).status == "completed"


def test_a_job_taken_by_a_worker_that_died_before_it_said_so_is_enqueued_again(
    app: APIFlask, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = backups.start(TESTER)
    taken = Queue.dequeue_any([queue.named(queue.BACKUPS)], None, queue.connection(), queue.QueuedJob)
    assert taken is not None
    assert waiting_jobs() == []
    backup_recovery.reconcile()
    assert waiting_jobs() == [], "it may be on its way to its row"
    monkeypatch.setattr(backup_recovery, "IN_TRANSIT", timedelta(0))
    backup_recovery.reconcile()
    assert waiting_jobs() == [f"backup-{row.id}"]
    processes.start("worker", "--queue", "backups")
    assert finished(row).status == "completed"


def test_a_verification_that_redis_forgot_is_enqueued_again(app: APIFlask, make_row: MakeRow) -> None:
    row = make_row(verify_requested_at=utcnow() - timedelta(minutes=2))
    backup_recovery.reconcile()
    assert queue.knows(queue.BACKUPS, f"verify-{row.id}")


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_the_partial_file_of_a_closed_backup_is_removed(
    app: APIFlask, make_row: MakeRow, storage_dir: Path, status: str
) -> None:
    partial = partial_of(storage_dir, make_row(status).id)
    backup_recovery.reconcile()
    assert not partial.exists()


def test_a_strangers_partial_file_goes_when_it_stopped_growing(app: APIFlask, storage_dir: Path) -> None:
    partial = partial_of(storage_dir, uuid.uuid4())
    backup_recovery.reconcile()
    assert partial.exists()
    long_ago = time.time() - 3600
    os.utime(partial, (long_ago, long_ago))
    backup_recovery.reconcile()
    assert not partial.exists()


def test_a_run_closed_while_it_was_stopped_publishes_nothing(
    app: APIFlask, worker: Worker, documents_dir: Path, storage_dir: Path
) -> None:
    make_sparse(documents_dir / "large", 6 << 30)
    row = backups.start(TESTER)
    wait_for(lambda: backups.get(row.id).phase == "documents")
    (horse,) = [child for child in psutil.Process(worker.pid).children() if child.status() != psutil.STATUS_ZOMBIE]
    horse.suspend()
    assert ledger.backups.fail(row.id, 1, LOST)
    horse.resume()
    wait_for(lambda: not horse.is_running() or horse.status() == psutil.STATUS_ZOMBIE)
    wait_for(lambda: list(storage_dir.iterdir()) == [])
    assert backups.get(row.id).error == LOST
