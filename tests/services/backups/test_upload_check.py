"""The check of an upload in a real worker that is killed."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path
from uuid import UUID

import psutil
import psycopg
import pytest
from apiflask import APIFlask

from app.config import Settings
from app.engine.storage.local import LocalStorage
from app.runs import locks, queue
from app.services.backups import backups, uploads
from app.services.recovery import backup_recovery
from tests.support.application import TESTER, finished, wait_for
from tests.support.foreign_archives import made_by_hand


def receive() -> UUID:
    """Receive an archive and return its row's id."""
    content = made_by_hand()
    return uploads.receive(TESTER, io.BytesIO(content), "application/gzip", len(content)).id


def kill_horse(worker: subprocess.Popen[bytes], upload_id: UUID, attempt: int) -> None:
    """Kill the work horse that checks an upload as soon as it is at that attempt, which can't end before we let it."""

    def stuck() -> bool:
        row = backups.get(upload_id)
        return (row.attempt, row.worker is not None) == (attempt, True)

    wait_for(stuck)
    for child in psutil.Process(worker.pid).children():
        child.kill()


def test_a_worker_killed_in_the_check_twice_leaves_a_failed_upload_and_nothing_else(
    app: APIFlask, worker: subprocess.Popen[bytes], settings: Settings, storage_dir: Path
) -> None:
    upload_id = receive()
    with psycopg.connect(settings.metadata_dsn) as holder:
        # The last step of a check waits for this lock.
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [locks.key(locks.UPLOAD)])
        kill_horse(worker, upload_id, 1)
        kill_horse(worker, upload_id, 2)
    row = finished(backups.get(upload_id))
    assert (row.status, "lost each time" in str(row.error)) == ("failed", True)
    assert list(storage_dir.iterdir()) == []


def test_a_check_whose_worker_is_killed_while_redis_forgets_it_is_enqueued_again(
    app: APIFlask,
    worker: subprocess.Popen[bytes],
    settings: Settings,
    storage_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upload_id = receive()
    with psycopg.connect(settings.metadata_dsn) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [locks.key(locks.UPLOAD)])
        wait_for(lambda: backups.get(upload_id).worker is not None)
        members = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
        for member in members:
            member.kill()
        worker.wait(10)
        queue.connection().flushdb()
    monkeypatch.setattr(backup_recovery, "IN_TRANSIT", backup_recovery.timedelta(0))
    monkeypatch.setattr(backup_recovery, "SILENT", backup_recovery.timedelta(0))
    wait_for(lambda: (backup_recovery.reconcile(), queue.knows(queue.CHECKS, f"check-{upload_id}-2"))[1])
    assert len(LocalStorage(storage_dir).partials()) == 1
