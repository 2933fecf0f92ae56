"""Workers and horses killed at random moments: never a completed row or a final name for half an archive."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg
import pytest
from apiflask import APIFlask

from app.config import Settings
from app.engine.storage.local import LocalStorage
from app.engine.verify.verify import verify_archive
from app.models import BackupHistory
from app.runs import queue
from app.services.backups import backups
from app.services.recovery import backup_recovery
from tests.support.application import TESTER, Processes, finished, make_sparse, wait_for
from tests.support.databases import SourceDatabase

MOMENTS = 20


def settled(row: BackupHistory) -> BackupHistory:
    """Reconcile as the minute tick does until a backup is closed, and return its row: a job that was killed before it
    reached its row is enqueued again by the tick alone."""

    def closed() -> bool:
        backup_recovery.reconcile()
        return backups.get(row_id).status not in ("queued", "in_progress")

    row_id = row.id
    wait_for(closed, 120)
    return backups.get(row_id)


def check_aftermath(settings: Settings, source_db: SourceDatabase) -> None:
    """Check that every completed row has its whole archive, every archive its row, and nothing else is left."""
    rows = backups.list_backups(1, 100)
    assert not [row for row in rows.items if row.status in ("queued", "in_progress")]
    completed = {row.filename: row for row in rows.items if row.status == "completed"}
    archives = [settings.storage_dir / name for name in LocalStorage(settings.storage_dir).archives()]
    assert {path.name for path in archives} == set(completed)
    for path in archives:
        assert verify_archive(path, settings.signing_key).ok
    assert all(row.error for row in rows.items if row.status == "failed")
    assert {path.name for path in settings.storage_dir.iterdir()} == set(completed)
    with psycopg.connect(source_db.admin_url) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        wait_for(lambda: connection.execute(query).fetchone() == (0,), 20)


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("whole_worker", [False, True], ids=["horse", "worker and horse"])
def test_kill_9_at_random_moments_leaves_nothing_half_done(
    app: APIFlask,
    processes: Processes,
    settings: Settings,
    source_db: SourceDatabase,
    documents_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    whole_worker: bool,
) -> None:
    monkeypatch.setattr(backup_recovery, "SILENT", timedelta(seconds=3))
    monkeypatch.setattr(backup_recovery, "IN_TRANSIT", timedelta(seconds=5))
    monkeypatch.setattr(queue, "HEARTBEAT_GRACE", timedelta(seconds=20))
    make_sparse(documents_dir / "large", 1 << 29)
    with psycopg.connect(source_db.url) as connection:
        connection.execute("CREATE TABLE logs AS SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 100000) n")
    worker = processes.start("worker", "--queue", "backups")
    started = time.monotonic()
    assert finished(backups.start(TESTER)).status == "completed"
    usual = time.monotonic() - started
    chance = random.Random(20)
    for _ in range(MOMENTS):
        row = backups.start(TESTER)
        time.sleep(chance.uniform(0, usual))
        family = psutil.Process(worker.pid).children(recursive=False)
        family += [psutil.Process(worker.pid)] if whole_worker else []
        for process in family:
            process.kill()
        if whole_worker:
            worker.wait(10)
            worker = processes.start("worker", "--queue", "backups")
        row = settled(row)
        wait_for(lambda: not LocalStorage(settings.storage_dir).partials(), 20)
        assert row.status in ("completed", "failed")
    check_aftermath(settings, source_db)
    assert finished(backups.start(TESTER)).status == "completed"
