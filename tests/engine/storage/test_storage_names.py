"""Names of archives: given once, after everything else, and never to the cost of another file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from app.engine.backup.backup import make_backup
from app.engine.errors import PublishError
from app.engine.storage.local import LocalStorage, archive_name
from app.engine.verify.verify import verify_archive
from tests.support.archives import APP, KEY, backup, leftovers, request_for
from tests.support.databases import SourceDatabase

MOMENT = datetime(2026, 3, 1, 2, 59, 58, tzinfo=UTC)
ROOT = Path(__file__).resolve().parents[3]
_PUBLISHER = """
import sys
from datetime import datetime
from pathlib import Path
from app.engine.storage.local import LocalStorage

folder, app, moment = Path(sys.argv[1]), sys.argv[2], datetime.fromisoformat(sys.argv[3])
mine = sorted(folder.glob(f".{sys.argv[4]}-*.partial"))
print("ready", flush=True)
sys.stdin.readline()
for partial in mine:
    print(partial.name, LocalStorage(folder).publish(partial, app, moment), flush=True)
"""


def _partial(storage: Path, content: str = "finished") -> Path:
    path = LocalStorage(storage).partial_path(uuid4(), 1)
    path.write_text(content)
    return path


def _without_links(monkeypatch: pytest.MonkeyPatch, number: int = errno.EPERM) -> None:
    """Faked: a filesystem without hard links, as exFAT or some network shares are; it can't be mounted everywhere."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.link", refuse)


def test_the_name_is_made_of_the_app_and_the_time_in_utc() -> None:
    there = datetime.fromisoformat("2026-03-01T03:59:58+01:00")
    assert archive_name(APP, there) == "motovaultpro_backup_20260301_025958.tar.gz"


def test_a_taken_name_is_left_alone_and_the_next_free_second_is_used(storage_dir: Path) -> None:
    taken = [archive_name(APP, MOMENT + timedelta(seconds=second)) for second in range(3)]
    for name in taken:
        (storage_dir / name).write_text(f"older {name}")
    partial = _partial(storage_dir)
    final = storage_dir / LocalStorage(storage_dir).publish(partial, APP, MOMENT)
    assert final.name == "motovaultpro_backup_20260301_030001.tar.gz"
    assert final.read_text() == "finished"
    assert not partial.exists()
    assert all((storage_dir / name).read_text() == f"older {name}" for name in taken)


@pytest.mark.parametrize("links", [True, False], ids=["link", "renameat2"])
def test_folders_and_dangling_links_of_the_name_are_left_alone_too(
    storage_dir: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        _without_links(monkeypatch)
    (storage_dir / archive_name(APP, MOMENT)).mkdir()
    (storage_dir / archive_name(APP, MOMENT + timedelta(seconds=1))).symlink_to("nowhere")
    final = storage_dir / LocalStorage(storage_dir).publish(_partial(storage_dir), APP, MOMENT)
    assert final.name == archive_name(APP, MOMENT + timedelta(seconds=2))
    assert (storage_dir / archive_name(APP, MOMENT)).is_dir()
    assert (storage_dir / archive_name(APP, MOMENT + timedelta(seconds=1))).is_symlink()


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_without_hard_links_the_file_is_renamed_and_nothing_replaced(
    storage_dir: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    _without_links(monkeypatch, number)
    older = storage_dir / archive_name(APP, MOMENT)
    older.write_text("older")
    final = storage_dir / LocalStorage(storage_dir).publish(_partial(storage_dir), APP, MOMENT)
    assert final.read_text() == "finished"
    assert older.read_text() == "older"
    assert leftovers(storage_dir) == []


def test_another_failure_is_told_and_leaves_no_name(storage_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without_links(monkeypatch, errno.EROFS)
    partial = _partial(storage_dir)
    with pytest.raises(PublishError, match="Read-only file system"):
        LocalStorage(storage_dir).publish(partial, APP, MOMENT)
    assert LocalStorage(storage_dir).archives() == []


def test_an_hour_of_taken_names_is_told(storage_dir: Path) -> None:
    for second in range(3600):
        (storage_dir / archive_name(APP, MOMENT + timedelta(seconds=second))).touch()
    with pytest.raises(PublishError, match="taken"):
        LocalStorage(storage_dir).publish(_partial(storage_dir), APP, MOMENT)
    assert len(LocalStorage(storage_dir).archives()) == 3600


def test_processes_that_publish_at_the_same_second_all_get_a_name(storage_dir: Path) -> None:
    processes, each = 4, 25
    for process in range(processes):
        for number in range(each):
            (storage_dir / f".{process}-{number:02}.partial").write_text(f".{process}-{number:02}.partial")
    command = [sys.executable, "-c", _PUBLISHER, str(storage_dir), APP, MOMENT.isoformat()]
    running = [
        subprocess.Popen([*command, str(process)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        for process in range(processes)
    ]
    for process in running:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = []
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        outputs += [line.split() for line in output.splitlines()]
    assert len({final for _, final in outputs}) == processes * each
    assert all((storage_dir / final).read_text() == partial for partial, final in outputs)
    assert len(LocalStorage(storage_dir).archives(APP)) == processes * each
    assert leftovers(storage_dir) == []


def test_two_backups_in_the_same_second_are_two_archives(
    small_database: SourceDatabase, documents_dir: Path, storage_dir: Path
) -> None:
    with ThreadPoolExecutor(3) as executor:
        running = [executor.submit(backup, small_database.url, documents_dir, storage_dir) for _ in range(3)]
        results = [each.result() for each in running]
    assert len({result.path for result in results}) == 3
    for result in results:
        report = verify_archive(result.path, KEY)
        assert report.ok
        assert report.sha256 == result.sha256
        assert report.manifest is not None
        assert report.manifest.backup_id == result.manifest.backup_id
    assert leftovers(storage_dir) == []


def test_a_fence_that_refuses_leaves_neither_name_nor_temporary_file(
    small_database: SourceDatabase, documents_dir: Path, storage_dir: Path
) -> None:
    class LostError(Exception):
        pass

    seen: list[list[str]] = []

    def fence() -> None:
        seen.append(leftovers(storage_dir))
        raise LostError

    with pytest.raises(LostError):
        make_backup(request_for(small_database.url, documents_dir, storage_dir), None, fence)
    assert len(seen[0]) == 1
    assert list(storage_dir.iterdir()) == []


def test_only_final_names_are_listed_and_only_a_runs_own_temporary_files_removed(storage_dir: Path) -> None:
    mine, other = uuid4(), uuid4()
    for run, attempt in ((mine, 1), (mine, 2), (other, 1)):
        LocalStorage(storage_dir).partial_path(run, attempt).touch()
    (storage_dir / "another_backup_20260101_000000.tar.gz").touch()
    (storage_dir / "motovaultpro_backup_20260101_000000.tar.gz").touch()
    (storage_dir / "motovaultpro_backup_20260101_000000.tar.gz.part").touch()
    (storage_dir / "notes.txt").touch()
    assert LocalStorage(storage_dir).archives(APP) == ["motovaultpro_backup_20260101_000000.tar.gz"]
    assert len(LocalStorage(storage_dir).archives()) == 2
    assert LocalStorage(storage_dir).remove_partials(mine) == 2
    assert [(partial.backup_id, partial.attempt) for partial in LocalStorage(storage_dir).partials()] == [(other, 1)]
    missing = LocalStorage(storage_dir / "missing")
    assert missing.archives() == missing.partials() == []
