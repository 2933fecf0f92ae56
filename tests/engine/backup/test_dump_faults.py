"""What breaks in the middle of a dump fails the backup with a reason and leaves nothing: no file, no process, no secret."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.backup import dump, parallel_dump
from app.engine.backup.backup import make_backup
from app.engine.dump.dump_splitter import DumpSplitter, Event, Rows
from app.engine.errors import DumpError, StalledError
from app.engine.storage.local import LocalStorage
from app.engine.system.processes import kill_orphans
from tests.support.archives import backup, request_for
from tests.support.databases import SourceDatabase, fresh_source
from tests.support.dumping import children_named, dumpers
from tests.support.hard_schema import fill_rows
from tests.support.processes import is_alive, wait_until, wait_until_gone

ROWS = 20_000


class Cancelled(Exception):
    """What a caller's progress function raises."""


@pytest.fixture(scope="module")
def filled(pg18: EmbeddedPostgres) -> Iterator[SourceDatabase]:
    """A database far larger than a pipe, which no test changes."""
    with fresh_source(pg18) as source:
        fill_rows(source, "bulk", ROWS, 16)
        yield source


@pytest.fixture(autouse=True)
def _no_temporary_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert list(folder.iterdir()) == []


@pytest.fixture
def midway(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Return a function that lets something happen once, when the first rows have arrived and pg_dump still writes."""

    def arrange(happen: Callable[[], object]) -> None:
        feed, happened = DumpSplitter.feed, []

        def feed_then_happen(self: DumpSplitter, chunk: bytes) -> list[Event]:
            events = feed(self, chunk)
            if not happened and any(isinstance(event, Rows) for event in events):
                happened.append(True)
                happen()
            return events

        monkeypatch.setattr(DumpSplitter, "feed", feed_then_happen)

    return arrange


def end_sessions(url: str, condition: str) -> None:
    """End the sessions of a superuser's database that fulfil `condition`, and wait until they are gone."""
    with psycopg.connect(url, autocommit=True) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            f"WHERE datname = current_database() AND pid <> pg_backend_pid() AND {condition}"
        ).fetchall()
    assert [done for (done,) in ended] == [True]


def assert_nothing_is_left(storage: Path, run_id: UUID) -> None:
    assert list(storage.iterdir()) == []
    assert dumpers(run_id) == []
    assert children_named("pg_dump") == []


def assert_one_line(error: BaseException) -> None:
    assert "\n" not in str(error)
    assert str(error).strip()


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_pg_dump_fails_the_backup(
    filled: SourceDatabase,
    number: signal.Signals,
    threads: int,
    documents_dir: Path,
    storage_dir: Path,
    midway: Callable[[Callable[[], object]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parallel_dump, "LARGE_TABLE_BYTES", 8192)
    request = request_for(filled.url, documents_dir, storage_dir, threads=threads)
    seen: list[int] = []

    def kill() -> None:
        seen.extend(child.pid for child in dumpers(request.backup_id))
        for pid in seen:
            os.kill(pid, number)

    midway(kill)
    with pytest.raises(DumpError, match=f"pg_dump was ended by signal {int(number)}|terminated by user") as caught:
        make_backup(request)

    assert seen
    assert_one_line(caught.value)
    assert_nothing_is_left(storage_dir, request.backup_id)
    assert backup(filled.url, documents_dir, storage_dir).manifest.tables[0].rows == ROWS


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("application_name = 'pg_dump'", "pg_dump failed with exit code 1: .*terminat"),
        ("application_name LIKE 'backup %'", "The database connection was lost: .*terminat"),
    ],
    ids=["of pg_dump", "of the snapshot"],
)
def test_a_terminated_session_fails_the_backup(
    filled: SourceDatabase,
    condition: str,
    reason: str,
    documents_dir: Path,
    storage_dir: Path,
    midway: Callable[[Callable[[], object]], None],
) -> None:
    midway(lambda: end_sessions(filled.admin_url, condition))
    request = request_for(filled.url, documents_dir, storage_dir)

    with pytest.raises(DumpError, match=reason) as caught:
        make_backup(request)

    assert_one_line(caught.value)
    assert_nothing_is_left(storage_dir, request.backup_id)
    assert backup(filled.url, documents_dir, storage_dir).manifest.tables[0].rows == ROWS


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_a_server_that_ends_in_the_middle_fails_the_backup(
    how: str,
    documents_dir: Path,
    storage_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
    midway: Callable[[Callable[[], object]], None],
) -> None:
    with EmbeddedPostgres(18, tmp_path_factory.mktemp("doomed") / "data", durable=False) as server:
        with fresh_source(server) as source:
            fill_rows(source, "bulk", ROWS, 16)
            with psycopg.connect(source.admin_url, autocommit=True) as connection:
                connection.execute("CHECKPOINT")  # this server commits without waiting for its disk
            request = request_for(source.url, documents_dir, storage_dir)
            midway(server.stop if how == "stop" else server.crash)
            with pytest.raises(DumpError, match=r"(terminating|closed the connection|lost|closed unexpectedly)") as caught:
                make_backup(request)

            assert_one_line(caught.value)
            assert_nothing_is_left(storage_dir, request.backup_id)
            server.start()
            after = backup(server.url(source.name, source.user, source.password), documents_dir, storage_dir)
            assert after.manifest.tables[0].rows == ROWS


@pytest.mark.parametrize("phase", ["preflight", "database", "documents", "verify", "publish"])
def test_cancelling_in_any_phase_leaves_nothing(
    filled: SourceDatabase, phase: str, documents_dir: Path, storage_dir: Path
) -> None:
    request = request_for(filled.url, documents_dir, storage_dir)
    told: list[str] = []

    def progress(now: str, done: int, total: int | None) -> None:
        told.append(now)
        if now == phase:
            raise Cancelled

    with pytest.raises(Cancelled):
        make_backup(request, progress)

    order = ["preflight", "database", "documents", "verify", "publish"]
    assert list(dict.fromkeys(told)) == order[: order.index(phase) + 1]
    assert_nothing_is_left(storage_dir, request.backup_id)


@pytest.mark.parametrize("threads", [2, 4])
def test_cancelling_while_rows_flow_ends_pg_dump(
    filled: SourceDatabase, threads: int, documents_dir: Path, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_dump, "LARGE_TABLE_BYTES", 8192)
    monkeypatch.setattr("app.engine.progress.REPORT_EVERY_SECONDS", 0.0)
    request = request_for(filled.url, documents_dir, storage_dir, threads=threads)
    running: list[int] = []

    def progress(now: str, done: int, total: int | None) -> None:
        if now == "database" and not running:
            running.extend(child.pid for child in dumpers(request.backup_id))
            if running:  # between two of several pg_dump runs there is none
                raise Cancelled

    with pytest.raises(Cancelled):
        make_backup(request, progress)

    assert running
    assert_nothing_is_left(storage_dir, request.backup_id)


def test_the_fence_stops_a_verified_archive(filled: SourceDatabase, documents_dir: Path, storage_dir: Path) -> None:
    request = request_for(filled.url, documents_dir, storage_dir)
    seen: list[int] = []

    def fence() -> None:
        seen.append(len(LocalStorage(storage_dir).partials()))
        raise Cancelled

    with pytest.raises(Cancelled):
        make_backup(request, before_publish=fence)

    assert seen == [1]
    assert_nothing_is_left(storage_dir, request.backup_id)


def test_a_dump_that_stops_moving_is_a_stall(
    filled: SourceDatabase,
    documents_dir: Path,
    storage_dir: Path,
    midway: Callable[[Callable[[], object]], None],
) -> None:
    request = request_for(filled.url, documents_dir, storage_dir, stall_seconds=1.5)
    midway(lambda: [os.kill(child.pid, signal.SIGSTOP) for child in dumpers(request.backup_id)])
    ticks: list[str] = []

    with pytest.raises(StalledError, match="No byte moved"):
        make_backup(request, lambda phase, done, total: ticks.append(phase))

    assert ticks.count("database") >= 3
    assert_nothing_is_left(storage_dir, request.backup_id)


def test_a_pg_dump_that_ends_well_without_its_last_line_is_an_error(
    filled: SourceDatabase, documents_dir: Path, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = dump.command

    def cut_short(order: dump.DumpOrder, dsn: str) -> list[str]:
        return ["sh", "-c", '"$@" | head -c 300000; exit 0', "sh", *command(order, dsn)]

    monkeypatch.setattr(dump, "command", cut_short)
    request = request_for(filled.url, documents_dir, storage_dir)

    with pytest.raises(DumpError, match="broke off inside a table's data"):
        make_backup(request)
    assert_nothing_is_left(storage_dir, request.backup_id)


_WORKER = """
import sys, time
from pathlib import Path
from uuid import UUID
from app.engine.backup.backup import BackupRequest, make_backup
from app.engine.source.preflight import Source
from app.engine.dump.dump_splitter import DumpSplitter, Rows

feed = DumpSplitter.feed

def feed_then_wait(self, chunk):
    events = feed(self, chunk)
    if any(isinstance(event, Rows) for event in events):
        print("midway", flush=True)
        time.sleep(60)
    return events

DumpSplitter.feed = feed_then_wait
documents, storage, run_id = sys.argv[1:]
source = Source(sys.stdin.readline().strip(), Path(documents), "motovaultpro")
make_backup(BackupRequest(source, Path(storage), b"key", UUID(run_id), disk_reserve=0))
"""


def test_a_worker_killed_in_the_middle_takes_its_pg_dump_with_it(
    filled: SourceDatabase, documents_dir: Path, storage_dir: Path, tmp_path: Path
) -> None:
    run_id = uuid4()
    own_tmp = tmp_path / "worker_tmp"
    own_tmp.mkdir()
    worker = subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(documents_dir), str(storage_dir), str(run_id)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(own_tmp)},
    )
    try:
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(filled.url + "\n")
        worker.stdin.close()
        assert worker.stdout.readline() == "midway\n"
        (dumper,) = dumpers(run_id)
        assert is_alive(dumper.pid)
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()

    assert wait_until_gone(dumper.pid)
    assert kill_orphans(run_id) == 0
    assert [partial.backup_id for partial in LocalStorage(storage_dir).partials()] == [run_id]
    assert LocalStorage(storage_dir).remove_partials(uuid4()) == 0
    assert LocalStorage(storage_dir).remove_partials(run_id) == 1
    assert list(storage_dir.iterdir()) == []
    for left in own_tmp.rglob("*"):  # only the password file may be left, and only for this user
        assert left.stat().st_mode & 0o077 == 0


def test_an_orphan_is_found_by_its_run_and_killed() -> None:
    mine, other = uuid4(), uuid4()
    children = [
        subprocess.Popen(["sleep", "60"], env={**os.environ, "MVP_BACKUP_RUN_ID": str(run)}, start_new_session=True)
        for run in (mine, other)
    ]
    try:
        assert wait_until(lambda: len(dumpers(mine)) == 1)
        assert kill_orphans(mine) == 1
        assert children[0].wait(5) == -signal.SIGKILL
        assert children[1].poll() is None
    finally:
        for child in children:
            child.kill()
            child.wait()
