"""A source that hangs, and a caller that stops: the run ends in time, its children with it, and nothing stays behind."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import psycopg
import pytest

from app.engine.backup.backup import make_backup
from app.engine.errors import StalledError
from app.engine.system.processes import RUN_ID_VARIABLE
from app.engine.verify.verify import verify_archive
from tests.support.archives import KEY, backup, request_for
from tests.support.databases import SourceDatabase
from tests.support.processes import processes_with, wait_until_gone


@pytest.fixture
def busy_source(source_db: SourceDatabase) -> SourceDatabase:
    """A database whose dump takes long enough to be stopped in the middle: 60 MB in one table."""
    with psycopg.connect(source_db.url) as connection:
        connection.execute("CREATE TABLE big AS SELECT n, repeat(md5(n::text), 60) AS text FROM generate_series(1, 30000) n")
    return source_db


def _on_child(run: UUID, act: Callable[[int], object], seen: list[int]) -> threading.Thread:
    """Start a thread that does something to the run's first child as soon as there is one."""

    def watch() -> None:
        for _ in range(2000):
            for child in processes_with(RUN_ID_VARIABLE, str(run)):
                if "--format=plain" in child.cmdline():
                    act(child.pid)
                    seen.append(child.pid)
                    return
            time.sleep(0.005)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_dump_that_hangs_is_ended_after_the_stall_time(
    busy_source: SourceDatabase, documents_dir: Path, storage_dir: Path
) -> None:
    request = request_for(busy_source.url, documents_dir, storage_dir, stall_seconds=2.0)
    reports: list[tuple[float, str]] = []
    seen: list[int] = []
    watcher = _on_child(request.backup_id, lambda pid: os.kill(pid, signal.SIGSTOP), seen)
    begun = time.monotonic()
    with pytest.raises(StalledError, match=r"No byte moved .* in phase 'database'"):
        make_backup(request, lambda phase, done, total: reports.append((time.monotonic(), phase)))
    watcher.join()
    assert 2.0 <= time.monotonic() - begun < 20
    assert wait_until_gone(seen[0])
    assert processes_with(RUN_ID_VARIABLE, str(request.backup_id)) == []
    assert list(storage_dir.iterdir()) == []
    times = [moment for moment, _ in reports]
    assert max(after - before for before, after in itertools.pairwise(times)) < 1.5
    assert verify_archive(backup(busy_source.url, documents_dir, storage_dir).path, KEY).ok


def test_what_progress_raises_ends_the_run_and_its_children_in_any_phase(
    busy_source: SourceDatabase, documents_dir: Path, storage_dir: Path
) -> None:
    class CancelledError(Exception):
        pass

    for stop_at in ("preflight", "database", "documents", "verify", "publish"):

        def progress(phase: str, done: int, total: int | None, stop_at: str = stop_at) -> None:
            if phase == stop_at:
                raise CancelledError(phase)

        request = request_for(busy_source.url, documents_dir, storage_dir)
        with pytest.raises(CancelledError, match=stop_at):
            make_backup(request, progress)
        assert processes_with(RUN_ID_VARIABLE, str(request.backup_id)) == []
        assert list(storage_dir.iterdir()) == []


def test_the_phases_come_in_order_and_bytes_only_grow(
    busy_source: SourceDatabase, documents_dir: Path, storage_dir: Path
) -> None:
    reports: list[tuple[str, int, int | None]] = []
    make_backup(request_for(busy_source.url, documents_dir, storage_dir), lambda *report: reports.append(report))
    assert list(dict.fromkeys(phase for phase, _, _ in reports)) == [
        "preflight",
        "database",
        "documents",
        "verify",
        "publish",
    ]
    for phase in ("database", "documents", "verify"):
        done = [count for name, count, _ in reports if name == phase]
        assert done == sorted(done)
    assert all(total is None or count <= total for _, count, total in reports)
