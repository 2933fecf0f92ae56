"""Documents that change while they are read: read again once, then told about with the truth; the backup completes.

The changes are real and happen to real files; only the moment is chosen, by a hook right before a read or an open.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.engine.archive.reader import open_archive
from app.engine.backup.backup import BackupResult
from app.engine.source import documents
from app.engine.verify.verify import verify_archive
from tests.support.archives import KEY, backup, leftovers
from tests.support.databases import SourceDatabase

SMALL, LARGE = 20_000, 9_000_000
Change = Callable[[Path], object]
Backup = Callable[[], BackupResult]


@pytest.fixture(params=[SMALL, LARGE], ids=["small", "large"])
def victim(request: pytest.FixtureRequest, documents_dir: Path) -> Path:
    """A document of a size whose content says where a byte belongs."""
    path = documents_dir / "2" / "changing.txt"
    path.write_bytes(b"".join(b"%09d\n" % number for number in range(request.param // 10)))
    return path


@pytest.fixture
def make(small_database: SourceDatabase, documents_dir: Path, storage_dir: Path, tmp_path: Path) -> Backup:
    """Backs up `documents_dir`, verifies the archive and has tar extract it into `tmp_path/out`."""

    def backed_up() -> BackupResult:
        result = backup(small_database.url, documents_dir, storage_dir)
        assert verify_archive(result.path, KEY).problems == []
        assert leftovers(storage_dir) == []
        (tmp_path / "out").mkdir()
        done = subprocess.run(["tar", "xzf", result.path, "-C", tmp_path / "out"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return result

    return backed_up


@pytest.fixture
def extracted(tmp_path: Path) -> Path:
    return tmp_path / "out" / "documents"


@pytest.fixture
def while_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Change, int], list[int]]:
    """Change a file, each time it was opened for reading, right before its first bytes are read."""

    def arm(path: Path, change: Change, times: int) -> list[int]:
        real_open, real_read = documents.open_file, os.read
        opened: set[int] = set()
        done: list[int] = []

        def open_file(document: documents.Document, folder: documents.Folder | None = None) -> tuple[int, os.stat_result]:
            fd, state = real_open(document, folder)
            if document.name == path.name:
                opened.add(fd)
            return fd, state

        def read(fd: int, size: int) -> bytes:
            if fd in opened and len(done) < times:
                opened.discard(fd)
                done.append(size)
                change(path)
            return real_read(fd, size)

        monkeypatch.setattr(documents, "open_file", open_file)
        monkeypatch.setattr("os.read", read)
        return done

    return arm


@pytest.fixture
def before_open(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Change], None]:
    """Change a file after the walk has found it and before it is opened."""

    def arm(path: Path, change: Change) -> None:
        real = documents.open_file

        def open_file(document: documents.Document, folder: documents.Folder | None = None) -> tuple[int, os.stat_result]:
            if document.name == path.name and not done:
                done.append(True)
                change(path)
            return real(document, folder)

        done: list[bool] = []
        monkeypatch.setattr(documents, "open_file", open_file)

    return arm


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"one more line\n")


def _halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes()[::-1])


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"another file")
    os.replace(other, path)


def _line(result: BackupResult, path: str) -> dict[str, Any] | None:
    with open_archive(result.path) as reader:
        found = [json.loads(line) for line in reader.index_lines()]
    return next((line for line in found if line["path"] == path), None)


def _assert_stored(result: BackupResult, extracted: Path, content: bytes) -> None:
    stored = (extracted / "2" / "changing.txt").read_bytes()
    assert stored == content
    line = _line(result, "2/changing.txt")
    assert line is not None
    assert (line["size"], line["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("change", [_grow, _halve, _empty, _rewrite])
def test_a_file_that_changes_once_is_read_again(
    make: Backup, victim: Path, extracted: Path, while_read: Any, change: Change
) -> None:
    done = while_read(victim, change, 1)
    result = make()
    assert len(done) == 1
    assert result.warnings == []
    _assert_stored(result, extracted, victim.read_bytes())


def test_a_file_that_grows_all_the_time_is_stored_as_far_as_it_was_read(
    make: Backup, victim: Path, extracted: Path, while_read: Any
) -> None:
    original = victim.read_bytes()
    while_read(victim, _grow, 9)
    result = make()
    expected = original + b"one more line\n"  # what the first attempt found too late
    assert result.warnings == [
        f"2/changing.txt: it changed while it was read; this backup holds the {len(expected)} bytes that were read."
    ]
    _assert_stored(result, extracted, expected)


def test_a_file_that_shrinks_all_the_time_is_stored_as_the_warning_says(
    make: Backup, victim: Path, extracted: Path, while_read: Any
) -> None:
    original = victim.read_bytes()
    while_read(victim, _halve, 9)
    result = make()
    read = original[: len(original) // 4]
    missing = len(original) // 4 if len(original) == LARGE else 0
    also = f", the missing {missing} bytes as zeros" if missing else ""
    assert result.warnings == [
        f"2/changing.txt: it changed while it was read; this backup holds the {len(read)} bytes that were read{also}."
    ]
    _assert_stored(result, extracted, read + bytes(missing))


@pytest.mark.parametrize("change", [Path.unlink, _replace])
def test_a_file_that_loses_its_name_while_it_is_read_is_stored_whole(
    make: Backup, victim: Path, extracted: Path, while_read: Any, change: Change
) -> None:
    original = victim.read_bytes()
    while_read(victim, change, 1)
    result = make()
    assert result.warnings == []
    _assert_stored(result, extracted, original)


def test_a_file_that_changes_and_then_vanishes_is_reported(make: Backup, victim: Path, while_read: Any) -> None:
    def grow_and_vanish(path: Path) -> None:
        _grow(path)
        path.unlink()

    while_read(victim, grow_and_vanish, 1)
    result = make()
    assert result.warnings == ["2/changing.txt: it vanished before it was read; it is not in this backup."]
    assert _line(result, "2/changing.txt") is None


def _into_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def _into_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (Path.unlink, "it vanished before it was read"),
        (_into_link, "it became a link before it was read"),
        (_into_pipe, "it vanished before it was read"),
        (_into_folder, "it vanished before it was read"),
    ],
)
def test_a_file_that_is_none_any_more_when_it_is_opened_is_reported(
    make: Backup, victim: Path, extracted: Path, before_open: Any, change: Change, reason: str
) -> None:
    before_open(victim, change)
    result = make()
    assert result.warnings == [f"2/changing.txt: {reason}; it is not in this backup."]
    assert not os.path.lexists(extracted / "2" / "changing.txt")


@pytest.mark.parametrize("change", [_grow, _halve, _empty, _replace])
def test_a_file_that_changes_before_it_is_opened_is_stored_as_it_is_then(
    make: Backup, victim: Path, extracted: Path, before_open: Any, change: Change
) -> None:
    before_open(victim, change)
    result = make()
    assert result.warnings == []
    _assert_stored(result, extracted, victim.read_bytes())


def test_a_folder_that_becomes_a_link_to_the_outside_is_not_followed(
    make: Backup, documents_dir: Path, extracted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("not to be stored")
    real, opened = os.open, []

    def swap_second(path: Any, flags: int, *rest: Any, dir_fd: int | None = None, **more: Any) -> int:
        if path == "2" and dir_fd is not None:
            opened.append(path)
        if len(opened) == 2 and not (documents_dir / "2").is_symlink():  # the first time was the preflight's measuring
            (documents_dir / "2").rename(tmp_path / "moved away")
            (documents_dir / "2").symlink_to(outside)
        return real(path, flags, *rest, dir_fd=dir_fd, **more)

    monkeypatch.setattr("os.open", swap_second)
    result = make()
    assert len(opened) == 2
    assert result.warnings == ["2: it became a link before it was read; it is not in this backup."]
    assert not os.path.lexists(extracted / "2")
    assert (extracted / "3" / "invoice-0.txt").exists()


def _churn(folder: Path, outside: Path, stop: threading.Event, number: int) -> None:
    """Make, grow, rename, replace and remove files and folders below `folder` until told to stop."""
    turn = 0
    while not stop.wait(0.0005):
        turn += 1
        path = folder / f"{number}-{turn % 40}"
        if path.is_symlink() or path.is_file():
            path.unlink()
            path.mkdir()
            (path / "inside.txt").write_bytes(os.urandom(turn % 5000))
        elif path.is_dir() and turn % 3 == 0:
            gone = path.rename(path.with_name(path.name + "-gone"))
            path.symlink_to(outside)
            shutil.rmtree(gone)
        elif path.is_dir():
            (path / f"{turn}.txt").write_text("more")
        else:
            path.write_bytes(bytes(turn * 100 % 50_000))
        with (folder / f"growing-{number}.log").open("ab") as file:
            file.write(b"a line\n" * 100)


def test_a_folder_that_never_rests_is_backed_up_with_warnings(
    make: Backup, documents_dir: Path, extracted: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("not to be stored")
    for number in range(400):
        (documents_dir / "3" / f"resting-{number}.txt").write_text(f"document {number}\n" * 50)
    stop = threading.Event()
    busy = [threading.Thread(target=_churn, args=(documents_dir / "2", outside, stop, number)) for number in range(3)]
    for thread in busy:
        thread.start()
    try:
        result = make()
    finally:
        stop.set()
        for thread in busy:
            thread.join()
    assert all(warning.startswith("2/") for warning in result.warnings), result.warnings
    assert len(list((extracted / "3").glob("resting-*"))) == 400
    assert not list(extracted.rglob("secret.txt"))
    for path in extracted.rglob("*"):
        if stat.S_ISLNK(path.lstat().st_mode):
            assert not os.readlink(path).startswith("/")
