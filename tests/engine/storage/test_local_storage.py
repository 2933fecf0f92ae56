"""What every storage promises, asked of the local one: written once, found by name, never beyond its own files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from app.engine.storage.interface import FileInfo, Storage, parts_of
from app.engine.storage.local import LocalStorage


@pytest.fixture
def storage(storage_dir: Path) -> Storage:
    return LocalStorage(storage_dir)


def finished(folder: Path, content: bytes) -> Path:
    path = folder / ".finished"
    path.write_bytes(content)
    return path


def test_a_file_is_created_once_and_never_overwritten(storage: Storage, storage_dir: Path) -> None:
    storage.create("a.tar.gz", finished(storage_dir, b"first"))
    with pytest.raises(FileExistsError):
        storage.create("a.tar.gz", finished(storage_dir, b"second"))
    assert (storage_dir / "a.tar.gz").read_bytes() == b"first"


def test_a_blob_is_read_at_any_place_and_ends_where_the_file_does(storage: Storage, storage_dir: Path) -> None:
    content = os.urandom(100_000)
    storage.create("a.tar.gz", finished(storage_dir, content))
    with contextlib.closing(storage.open("a.tar.gz")) as blob:
        assert blob.size == len(content)
        assert blob.read_at(99_990, 100) == content[99_990:]
        assert blob.read_at(100_000, 1) == b""
        assert b"".join(parts_of(blob, 30_000)) == content
    with pytest.raises(FileNotFoundError):
        storage.open("b.tar.gz")


def test_files_are_listed_and_looked_up_without_following_links(storage: Storage, storage_dir: Path) -> None:
    (storage_dir / "a_1").write_bytes(b"12345")
    (storage_dir / "b_1").touch()
    (storage_dir / "a_link").symlink_to("a_1")
    (storage_dir / "a_folder").mkdir()
    listed = {info.name: info for info in storage.list("a_")}
    assert {name: info.is_regular for name, info in listed.items()} == {"a_1": True, "a_link": False, "a_folder": False}
    assert listed["a_1"] == storage.stat("a_1") == FileInfo("a_1", 5, (storage_dir / "a_1").stat().st_mtime_ns)
    assert {info.name for info in storage.list()} == {*listed, "b_1"}
    assert storage.stat("nothing") is None


def test_a_deleted_file_is_gone_and_deleting_it_again_does_nothing(storage: Storage, storage_dir: Path) -> None:
    (storage_dir / "a.tar.gz").touch()
    storage.delete("a.tar.gz")
    storage.delete("a.tar.gz")
    assert list(storage.list()) == []


def test_no_name_leads_out_of_the_folder(storage: Storage, storage_dir: Path) -> None:
    outside = storage_dir.parent / "outside"
    outside.touch()
    storage.delete("../outside")
    assert outside.exists()
    assert storage.stat("../outside") is None
    assert storage.local_path(str(outside)) == storage_dir / "outside"


def test_a_folder_that_is_missing_holds_nothing_and_its_disk_is_measured_above_it(storage_dir: Path) -> None:
    missing = LocalStorage(storage_dir / "not" / "yet")
    assert list(missing.list()) == []
    with pytest.raises(FileNotFoundError):
        missing.free_space()
    assert missing.or_nearest().folder == storage_dir
    missing.prepare()
    assert missing.features.free_space
    assert missing.free_space() > 0
