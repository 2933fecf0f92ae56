"""A full disk, at any point of a backup: a plain message, nothing left behind, and the next backup works."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.engine.backup import documents_writer
from app.engine.backup.backup import make_backup
from app.engine.errors import DiskFullError, EngineError, SourceError
from app.engine.source import preflight
from app.engine.source.documents import FolderSize
from app.engine.verify.verify import verify_archive
from tests.support.archives import APP, KEY, backup, leftovers, request_for
from tests.support.databases import SourceDatabase
from tests.support.dumping import children_named

ROOT = Path(__file__).resolve().parents[3]
_LIMITED = """
import json, resource, sys
from pathlib import Path
from uuid import uuid4
from app.engine.backup.backup import BackupRequest, make_backup
from app.engine.errors import EngineError
from app.engine.source.preflight import Source
from app.engine.backup import documents_writer

given = json.load(sys.stdin)
documents_writer.INDEX_IN_MEMORY = given["index_in_memory"]
if given["limit"] is not None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (given["limit"], given["limit"]))
source = Source(given["url"], Path(given["documents"]), "motovaultpro")
request = BackupRequest(source, Path(given["storage"]), b"a signing key for the tests", uuid4(), disk_reserve=0)
try:
    make_backup(request)
    print(json.dumps({"error": None}))
except EngineError as error:
    print(json.dumps({"error": type(error).__name__, "text": str(error)}))
"""


def _backup_with_limit(url: str, documents: Path, storage: Path, limit: int | None, index: int = 1 << 24) -> dict[str, Any]:
    order = {"url": url, "documents": str(documents), "storage": str(storage), "limit": limit, "index_in_memory": index}
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED], input=json.dumps(order), capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """Two megabytes that do not compress: a large file last, small ones before."""
    folder = tmp_path / "documents"
    folder.mkdir()
    chance = random.Random(5)
    for number in range(20):
        (folder / f"photo-{number:02}.jpg").write_bytes(chance.randbytes(50_000))
    (folder / "zz-film.mov").write_bytes(chance.randbytes(5_000_000))
    return folder


def _assert_told(text: str) -> None:
    assert "\n" not in text
    assert "free some room or move [storage]" in text


def test_a_size_limit_hit_anywhere_is_told_and_leaves_nothing(
    small_database: SourceDatabase, documents: Path, storage_dir: Path
) -> None:
    size = backup(small_database.url, documents, storage_dir).size_bytes
    [before] = storage_dir.iterdir()
    chance = random.Random(6)
    limits = [0, 100, 3000, size - 1, size - 40, size - 6000, *(chance.randrange(size) for _ in range(6))]
    for limit in limits:
        answer = _backup_with_limit(small_database.url, documents, storage_dir, limit)
        assert answer["error"] == "DiskFullError", (limit, answer)
        _assert_told(answer["text"])
        assert list(storage_dir.iterdir()) == [before], limit
    assert _backup_with_limit(small_database.url, documents, storage_dir, None)["error"] is None
    assert len(list(storage_dir.iterdir())) == 2
    assert all(verify_archive(path, KEY).ok for path in storage_dir.iterdir())


def test_a_limit_that_only_the_spooled_index_hits_is_told_too(
    small_database: SourceDatabase, storage_dir: Path, tmp_path: Path
) -> None:
    documents = tmp_path / "empty"
    documents.mkdir()
    for number in range(3000):
        (documents / f"{number}.txt").touch()
    answer = _backup_with_limit(small_database.url, documents, storage_dir, 300_000, index=50_000)
    assert answer["error"] == "DiskFullError", answer
    _assert_told(answer["text"])
    assert list(storage_dir.iterdir()) == []


@pytest.fixture(params=["tmpfs", "ext4"])
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of about 8 MB: one in memory, and one in a file, which is written past the page cache. Root only."""
    folder = tmp_path / "disk"
    folder.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "none", folder]
    if request.param == "ext4":
        image = tmp_path / "image"
        with image.open("wb") as file:
            file.truncate(9 * 1024 * 1024)
        mkfs = shutil.which("mkfs.ext4", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if mkfs is None:
            pytest.skip("mkfs.ext4 is not installed")
        subprocess.run([mkfs, "-q", "-F", "-m", "0", "-O", "^has_journal", image], check=True)
        mount = ["mount", "-o", "loop", image, folder]
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    made = subprocess.run(mount, capture_output=True, text=True)
    refusals = ("permission denied", "failed to setup loop device", "unknown filesystem type", "must be superuser")
    if any(refusal in made.stderr for refusal in refusals):  # a container that may not
        pytest.skip(f"nothing can be mounted here: {made.stderr.strip()}")
    assert made.returncode == 0, made.stderr
    if request.param == "ext4":
        (folder / "lost+found").rmdir()
        folder.chmod(0o700)
    yield folder
    subprocess.run(["umount", folder], check=True)


def _room(folder: Path) -> int:
    here = os.statvfs(folder)
    return here.f_bavail * here.f_frsize


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_full_disk_is_told_and_leaves_nothing(
    small_database: SourceDatabase, documents: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "app.engine.source.preflight.check_room", lambda *_: None
    )  # or it would refuse before the first byte
    size = backup(small_database.url, documents, small_disk).size_bytes
    [archive] = small_disk.iterdir()
    archive.unlink()
    filler = small_disk.parent / "disk" / "filler"
    for room in (4096, 300_000, size // 2, size - 30_000):
        filler.write_bytes(bytes(max(0, _room(small_disk) - room)))
        with pytest.raises(DiskFullError) as caught:
            backup(small_database.url, documents, small_disk)
        _assert_told(str(caught.value))
        assert list(small_disk.iterdir()) == [filler]
        filler.unlink()
    assert verify_archive(backup(small_database.url, documents, small_disk).path, KEY).ok


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_disk_that_turns_read_only_is_named(small_database: SourceDatabase, documents: Path, small_disk: Path) -> None:
    def remount(mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", small_disk], check=True)

    with pytest.raises(EngineError, match="Read-only file system"):
        make_backup(request_for(small_database.url, documents, small_disk), before_publish=lambda: remount("ro"))
    # What is left of it can't be removed now, and the next run says why it does not even begin.
    assert [path.suffix for path in small_disk.iterdir()] == [".partial"]
    with pytest.raises(SourceError, match="is on a file system that is read-only"):
        backup(small_database.url, documents, small_disk)
    remount("rw")


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_a_disk_that_fills_up_under_the_spooled_index_is_told(
    small_database: SourceDatabase, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents_writer, "INDEX_IN_MEMORY", 50_000)
    monkeypatch.setattr("app.engine.source.preflight.check_room", lambda *_: None)
    documents = tmp_path / "empty"
    documents.mkdir()
    for number in range(3000):
        (documents / f"{number}.txt").touch()
    (small_disk / "filler").write_bytes(bytes(_room(small_disk) - 250_000))
    with pytest.raises(DiskFullError) as caught:
        backup(small_database.url, documents, small_disk)
    _assert_told(str(caught.value))
    assert leftovers(small_disk) == ["filler"]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """For each time that the room on the disk is looked at, how many pg_dumps of ours run then."""
    seen: list[int] = []
    real = preflight.check_room

    def check_room(*given: Any) -> None:
        seen.append(len(children_named("pg_dump")))
        real(*given)

    monkeypatch.setattr(preflight, "check_room", check_room)
    return seen


def test_a_reserve_that_is_not_free_is_told_before_pg_dump_is_started(
    small_database: SourceDatabase, documents: Path, storage_dir: Path, looked: list[int]
) -> None:
    with pytest.raises(DiskFullError) as caught:
        backup(small_database.url, documents, storage_dir, disk_reserve=10**18)
    _assert_told(str(caught.value))
    assert f"{10**12} MB stay free" in str(caught.value)
    assert looked == [0]
    assert list(storage_dir.iterdir()) == []


def test_documents_that_will_not_fit_are_told_and_end_pg_dump(
    small_database: SourceDatabase, documents: Path, storage_dir: Path, looked: list[int]
) -> None:
    film = documents / "film.mov"
    with film.open("wb") as file:
        file.truncate(3 * _room(storage_dir))
    with pytest.raises(DiskFullError) as caught:
        backup(small_database.url, documents, storage_dir)
    _assert_told(str(caught.value))
    needed = re.search(r"The archive may need (\d+) MB", str(caught.value))
    assert needed is not None
    assert 0 <= int(needed[1]) - film.stat().st_size // 10**6 < 20
    assert looked == [0, 1]
    assert list(storage_dir.iterdir()) == []
    assert children_named("pg_dump") == []

    film.unlink()
    assert verify_archive(backup(small_database.url, documents, storage_dir).path, KEY).ok


@pytest.mark.parametrize(("share", "fits"), [(1.0, True), (8.0, False)])
def test_how_much_room_is_asked_for_grows_with_the_tables(storage_dir: Path, share: float, fits: bool) -> None:
    tables = int(_room(storage_dir) * share)
    refused = contextlib.nullcontext() if fits else pytest.raises(DiskFullError)
    with refused:
        preflight.check_room(storage_dir, tables, FolderSize(0, 0), 0)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a tmpfs")
def test_the_reserve_is_kept_while_the_disk_fills_up_from_elsewhere(
    small_database: SourceDatabase, documents: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.engine.archive.writer.CHECK_EVERY_BYTES", 1_000_000)
    real, filled = documents_writer.pack, threading.Event()

    def fill_up(batch: Any) -> Any:
        if not filled.is_set():
            filled.set()
            (small_disk / "filler").write_bytes(bytes(max(0, _room(small_disk) - 2_500_000)))
        return real(batch)

    monkeypatch.setattr(documents_writer, "pack", fill_up)
    with pytest.raises(DiskFullError, match="are left on the disk"):
        backup(small_database.url, documents, small_disk, disk_reserve=2_000_000)
    assert leftovers(small_disk) == ["filler"]
    assert not list(small_disk.glob(f"{APP}*"))
