"""Workers killed during a restore: the live state is wholly old or wholly new, and the row says which."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import pytest
from apiflask import APIFlask
from sqlalchemy import text

from app.engine.restore.places.journal import KEPT, all_in
from app.engine.storage.local import LocalStorage
from app.extensions import db
from app.models import Restore
from app.runs import ledger, queue
from app.services.backups import backups
from app.services.installation import restore_engine
from app.services.monitoring import health
from app.services.recovery import backup_recovery, restore_recovery
from app.services.recovery.restore_recovery import LOST, LOST_FINISHED
from app.services.restores import restores
from tests.support.application import ROOT, TESTER, Processes, wait_for
from tests.support.databases import SourceDatabase
from tests.support.live_state import change_everything, ended, leftovers, live_state, made_backup, restored

Worker = subprocess.Popen[bytes]
KILLS = 12


def kill_horse(worker: Worker) -> None:
    """Kill the process that runs the worker's present job."""
    for child in psutil.Process(worker.pid).children():
        if child.status() != psutil.STATUS_ZOMBIE:
            os.kill(child.pid, signal.SIGKILL)


def fill(source: SourceDatabase) -> None:
    """Give the source enough rows for a restore of some seconds."""
    with psycopg.connect(source.url) as connection:
        connection.execute("CREATE TABLE logs AS SELECT n, repeat(md5(n::text), 10) FROM generate_series(1, 400000) n")
        connection.execute("CREATE INDEX ON logs (n)")


def test_a_horse_killed_while_staging_leaves_the_old_state_and_says_so(
    app: APIFlask, worker: Worker, source_db: SourceDatabase, documents_dir: Path
) -> None:
    fill(source_db)
    backup = made_backup()
    change_everything(source_db, documents_dir)
    changed = live_state(source_db, documents_dir)
    row = restores.start(TESTER, backup.id, source_db.name, safety_backup=False)
    wait_for(lambda: restores.get(row.id).phase == "database")
    kill_horse(worker)
    row = ended(row, 30)
    assert (row.status, row.error) == ("failed", LOST)
    assert live_state(source_db, documents_dir) == changed
    wait_for(lambda: leftovers(source_db, documents_dir) == [], 10)
    assert restored(backup, source_db).status == "completed"


def test_a_horse_killed_during_the_safety_backup_closes_both_rows(
    app: APIFlask, worker: Worker, source_db: SourceDatabase, documents_dir: Path, storage_dir: Path
) -> None:
    fill(source_db)
    backup = made_backup()
    row = restores.start(TESTER, backup.id, source_db.name)
    wait_for(lambda: restores.get(row.id).phase == "safety_backup")
    kill_horse(worker)
    row = ended(row, 30)
    assert (row.status, row.error) == ("failed", LOST)
    assert backups.get(row.safety_backup_id).status == "failed"  # type: ignore[arg-type]
    wait_for(lambda: LocalStorage(storage_dir).partials() == [], 10)


def cut_swap(processes: Processes, backup_id: object, at: str) -> Restore:
    """Return the row of a restore whose process ends at the named step of its swap, as kill -9 would end it."""
    code = f"""
import os, sys
from app import create_app
from app.engine.restore import swap
from app.jobs import restore
def die(*arguments, **options):
    os._exit(9)
swap.{at} = die
app = create_app()
with app.app_context():
    restore.run(sys.argv[1])
"""
    row = ledger.restores.open("tests", backup_id=backup_id, scope="all", safety_backup=False)
    db.session.commit()
    backups.rest()
    done = subprocess.run([sys.executable, "-c", code, str(row.id)], cwd=ROOT, env=processes.environment, timeout=120)
    assert done.returncode == 9
    return restores.get(row.id)


@pytest.mark.parametrize("at", ["exchange", "exchange_folders", "check_health"])
def test_a_worker_killed_in_the_swap_leaves_a_whole_state_and_the_row_follows_it(
    app: APIFlask,
    worker: Worker,
    processes: Processes,
    source_db: SourceDatabase,
    documents_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
) -> None:
    backup = made_backup()
    before = live_state(source_db, documents_dir)
    change_everything(source_db, documents_dir)
    row = cut_swap(processes, backup.id, at)
    assert (row.status, row.phase) == ("in_progress", "swap" if at != "check_health" else "health")
    restore_recovery.reconcile()
    assert restores.get(row.id).status == "in_progress", "a heartbeat that young may be a database that restarted"
    monkeypatch.setattr(backup_recovery, "SILENT", timedelta(0))
    restore_recovery.reconcile()
    row = restores.get(row.id)
    assert row.status == "completed"
    assert LOST_FINISHED in row.warnings
    assert live_state(source_db, documents_dir) == before
    restores.undo(TESTER, row.id)
    assert live_state(source_db, documents_dir) != before


def test_a_backup_never_reads_a_half_swapped_state(
    app: APIFlask,
    worker: Worker,
    processes: Processes,
    source_db: SourceDatabase,
    documents_dir: Path,
    storage_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backup = made_backup()
    before = live_state(source_db, documents_dir)
    change_everything(source_db, documents_dir)
    row = cut_swap(processes, backup.id, "exchange_folders")
    assert live_state(source_db, documents_dir) != before
    following = made_backup()
    assert live_state(source_db, documents_dir) == before
    assert following.summary["documents"] == backup.summary["documents"]
    monkeypatch.setattr(backup_recovery, "SILENT", timedelta(0))
    restore_recovery.reconcile()
    assert restores.get(row.id).status == "completed"


def test_a_finished_restore_that_the_history_forgot_is_found_by_its_journal(
    app: APIFlask, worker: Worker, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()
    before = live_state(source_db, documents_dir)
    change_everything(source_db, documents_dir)
    row_id = restored(backup, source_db).id
    restores.undo(TESTER)
    db.session.execute(db.delete(Restore))
    db.session.commit()
    restore_recovery.reconcile(thorough=True)
    row = restores.get(row_id)
    assert (row.status, row.scope, row.requested_by) == ("completed", "all", "recovery")
    assert row.undone_at is not None
    restores.undo(TESTER, row_id)
    assert live_state(source_db, documents_dir) == before


def test_a_queued_restore_that_redis_forgot_is_enqueued_again(app: APIFlask, monkeypatch: pytest.MonkeyPatch) -> None:
    row = ledger.restores.open("tests", scope="all")
    db.session.commit()
    restore_recovery.reconcile()
    assert not queue.knows(queue.BACKUPS, ledger.restores.job_id(row.id)), "it may be on its way"
    monkeypatch.setattr(backup_recovery, "IN_TRANSIT", timedelta(0))
    restore_recovery.reconcile()
    assert queue.knows(queue.BACKUPS, ledger.restores.job_id(row.id))


def ended_with_ticks(row: Restore) -> Restore:
    """Wait until a restore is closed while the tick runs repeatedly, since the tick restarts one killed before its claim."""
    row_id = row.id

    def closed() -> bool:
        restore_recovery.reconcile()
        return restores.get(row_id).status not in ("queued", "in_progress")

    wait_for(closed)
    return restores.get(row_id)


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_kill_9_at_random_moments_leaves_one_whole_state_that_the_row_names(
    app: APIFlask,
    worker: Worker,
    source_db: SourceDatabase,
    documents_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backup_recovery, "IN_TRANSIT", timedelta(seconds=2))
    fill(source_db)
    backup = made_backup()
    before = live_state(source_db, documents_dir)
    chance = random.Random(30)
    started = time.monotonic()
    assert restored(backup, source_db, safety_backup=False).status == "completed"
    usual = time.monotonic() - started
    for number in range(KILLS):
        (documents_dir / f"since-{number}").write_text("changed")
        changed = live_state(source_db, documents_dir)
        row = restores.start(TESTER, backup.id, source_db.name, safety_backup=False)
        time.sleep(chance.uniform(0, usual))
        kill_horse(worker)
        row = ended_with_ticks(row)
        wait_for(lambda: not [j for j in all_in(restore_engine.state_dir()) if j.step != KEPT], 20)
        row = restores.get(row.id)
        assert row.status in ("completed", "failed")
        assert live_state(source_db, documents_dir) == (before if row.status == "completed" else changed)


def test_a_restored_state_that_is_not_whole_after_a_crash_is_undone_and_never_called_completed(
    app: APIFlask, worker: Worker, processes: Processes, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()
    change_everything(source_db, documents_dir)
    changed = live_state(source_db, documents_dir)
    row = cut_swap(processes, backup.id, "exchange")
    staged = f"{source_db.name}_restore_{row.id.hex[:12]}"
    with psycopg.connect(source_db.server.url(staged)) as connection:
        connection.execute("DELETE FROM vehicles WHERE id = 1")

    restore_recovery.reconcile()

    row = restores.get(row.id)
    assert row.status == "failed"
    assert "999 rows instead of 1000 in table public.vehicles" in (row.error or "")
    assert "The state before the restore is live" in (row.error or "")
    assert live_state(source_db, documents_dir) == changed
    assert leftovers(source_db, documents_dir) == []


def test_a_journal_that_can_not_be_used_is_reported_and_stops_nothing(
    app: APIFlask, worker: Worker, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()
    row = restored(backup, source_db)
    folder = restore_engine.state_dir()
    path = folder / f"{row.id}.json"
    path.chmod(0o666)
    (folder / f"{uuid4()}.json").write_bytes(b"torn")

    restore_recovery.reconcile(thorough=True)
    restore_recovery.settle_before_reading()
    made_backup()

    check = next(check for check in health.checks() if check.name == "restores")
    assert not check.ok
    assert check.detail.startswith("2 journals")
    assert restores.get(row.id).discarded_at is None, "it is still there, and can be undone when its rights are right"
    path.chmod(0o600)
    assert restores.undo(TESTER, row.id).undone_at is not None


def test_what_a_row_says_is_durable_where_the_server_does_not_wait(app: APIFlask) -> None:
    assert db.session.scalar(text("SELECT setting FROM pg_settings WHERE name = 'fsync'")) == "off"
    assert db.session.scalar(text("SHOW synchronous_commit")) == "on"
