"""The worker's processes, and a metadata database that goes away under a running backup."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import psutil
import psycopg
from apiflask import APIFlask

from app.engine.storage.local import LocalStorage
from app.runs import locks, queue
from app.services.backups import backups
from tests.support.application import TESTER, Processes, finished, make_sparse, wait_for
from tests.support.databases import SourceDatabase

Worker = subprocess.Popen[bytes]


def served() -> set[str]:
    """Return the queues that a worker which is alive serves."""
    return {name for worker in queue.workers() for name in worker.queues}


def test_one_command_serves_every_queue_in_processes_of_their_own(app: APIFlask, processes: Processes) -> None:
    supervisor = processes.start("worker")
    wait_for(lambda: served() == set(queue.QUEUES))
    assert len(queue.workers()) == len(queue.QUEUES)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(20) == 0
    assert served() == set()


def test_a_worker_process_that_dies_ends_the_others_with_an_error(app: APIFlask, processes: Processes) -> None:
    supervisor = processes.start("worker")
    wait_for(lambda: served() == set(queue.QUEUES))
    os.kill(psutil.Process(supervisor.pid).children()[0].pid, signal.SIGKILL)
    assert supervisor.wait(20) != 0


def test_worker_processes_follow_their_killed_parent(app: APIFlask, processes: Processes) -> None:
    supervisor = processes.start("worker")
    wait_for(lambda: served() == set(queue.QUEUES))
    children = psutil.Process(supervisor.pid).children(recursive=True)
    supervisor.kill()
    supervisor.wait(10)
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def test_a_worker_told_to_stop_finishes_its_backup_first(app: APIFlask, worker: Worker, documents_dir: Path) -> None:
    make_sparse(documents_dir / "large", 1 << 30)
    row = backups.start(TESTER)
    wait_for(lambda: backups.get(row.id).phase == "documents")
    worker.send_signal(signal.SIGTERM)
    assert finished(row).status == "completed"
    assert worker.wait(20) == 0


def test_a_worker_is_known_again_after_redis_was_flushed(app: APIFlask, worker: Worker) -> None:
    wait_for(lambda: served() == set(queue.QUEUES))
    queue.connection().flushdb()
    assert served() == set()
    wait_for(lambda: served() == set(queue.QUEUES))
    assert finished(backups.start(TESTER)).status == "completed"


def cut_connections(source_db: SourceDatabase, metadata_url: str) -> int:
    """End every connection to the metadata database, as its restart would, and return how many there were."""
    backups.rest()
    name = psycopg.conninfo.conninfo_to_dict(metadata_url)["dbname"]
    with psycopg.connect(source_db.server.url("postgres"), autocommit=True) as connection:
        cut = connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        return cut.rowcount


def test_a_metadata_database_that_restarts_does_not_cost_the_backup(
    app: APIFlask, worker: Worker, source_db: SourceDatabase, metadata_url: str, documents_dir: Path
) -> None:
    make_sparse(documents_dir / "large", 1 << 30)
    row = backups.start(TESTER)
    wait_for(lambda: backups.get(row.id).phase == "documents")
    assert cut_connections(source_db, metadata_url) >= 2
    row = finished(row)
    assert (row.status, row.error) == ("completed", None)


def test_a_run_whose_lock_was_taken_by_another_publishes_nothing(
    app: APIFlask, worker: Worker, source_db: SourceDatabase, metadata_url: str, documents_dir: Path, storage_dir: Path
) -> None:
    make_sparse(documents_dir / "large", 1 << 30)
    row = backups.start(TESTER)
    wait_for(lambda: backups.get(row.id).phase == "documents")
    cut_connections(source_db, metadata_url)
    with locks.holding(locks.WRITER) as taken:
        assert taken is not None
        row = finished(row)
    assert row.status == "failed"
    assert "lock" in str(row.error)
    assert LocalStorage(storage_dir).archives() == []
    assert LocalStorage(storage_dir).partials() == []
