"""Very many documents, very deep ones and very large ones, with as few open files and as little memory as ever."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.engine.archive.reader import open_archive
from app.engine.verify.verify import verify_archive
from tests.support.archives import KEY, backup, picture
from tests.support.backup_process import backup_in_a_process
from tests.support.databases import SourceDatabase

GIB = 1024**3


def _entries(archive: str) -> int:
    with open_archive(Path(archive)) as reader:
        documents = reader.manifest.documents
        return documents.files + documents.folders + documents.symlinks


def test_many_folders_of_one_document_each_need_few_open_files(
    small_database: SourceDatabase, storage_dir: Path, tmp_path: Path
) -> None:
    documents = tmp_path / "users"
    for user in range(3000):
        (documents / f"user-{user:04}").mkdir(parents=True)
        (documents / f"user-{user:04}" / "invoice.txt").write_text(f"user {user}\n")
    answer = backup_in_a_process(small_database.url, documents, storage_dir, threads=8, files=1024)
    assert answer["warnings"] == []
    assert answer["problems"] == []
    assert _entries(answer["path"]) == 6001


@pytest.fixture
def deep_folder(tmp_path: Path, storage_dir: Path) -> Iterator[Path]:
    """A folder for documents; it and `storage_dir` are removed by rm, as Python's rmtree gives up on very deep ones."""
    folder = tmp_path / "documents"
    folder.mkdir()
    yield folder
    subprocess.run(["rm", "-rf", folder, storage_dir], check=True)


def _nest(top: Path, levels: int, name: str) -> None:
    here = os.open(top, os.O_RDONLY)
    for level in range(levels):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
        for number in (0, 1):
            fd = os.open(f"{'az'[number]}.txt", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=here)
            os.write(fd, b"level %d\n" % level)
            os.close(fd)
    os.close(here)


@pytest.mark.parametrize(("levels", "name"), [(300, "folder"), (1500, "n")])
def test_deep_nesting_is_stored_whole_and_extracted(
    small_database: SourceDatabase, storage_dir: Path, deep_folder: Path, levels: int, name: str
) -> None:
    _nest(deep_folder, levels, name)
    answer = backup_in_a_process(small_database.url, deep_folder, storage_dir, files=700)
    assert answer["warnings"] == []
    assert answer["problems"] == []
    assert _entries(answer["path"]) == 3 * levels + 1
    done = subprocess.run(["tar", "xzf", answer["path"], "-C", storage_dir], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = subprocess.run(["find", storage_dir / "documents", "-type", "f"], capture_output=True, text=True, check=True)
    assert len(found.stdout.splitlines()) == 2 * levels


def test_paths_beyond_what_a_system_call_takes_never_crash_a_backup(
    small_database: SourceDatabase, storage_dir: Path, deep_folder: Path
) -> None:
    _nest(deep_folder, 150, "a long name of forty characters, or more!")
    answer = backup_in_a_process(small_database.url, deep_folder, storage_dir)
    assert answer["problems"] == []
    assert _entries(answer["path"]) + len(answer["warnings"]) == 451


@pytest.mark.heavy
@pytest.mark.timeout(1200)
def test_a_hundred_thousand_small_documents(small_database: SourceDatabase, storage_dir: Path, tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    for user in range(1000):
        (documents / f"{user}").mkdir(parents=True)
        for number in range(100):
            (documents / f"{user}" / f"receipt-{number}.txt").write_bytes(b"%d of user %d\n" % (number, user) * 20)
    answer = backup_in_a_process(small_database.url, documents, storage_dir)
    assert answer["warnings"] == []
    assert answer["problems"] == []
    assert _entries(answer["path"]) == 101_001
    assert answer["peak_bytes"] < 250 * 10**6
    subprocess.run(["tar", "xzf", answer["path"], "-C", storage_dir], check=True)
    assert picture(storage_dir / "documents") == picture(documents)


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_a_document_of_more_than_8_gib(small_database: SourceDatabase, storage_dir: Path, tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    huge = documents / "film.mov"
    with huge.open("wb") as file:
        file.truncate(8 * GIB + 4097)
        for offset in (0, 3 * GIB + 1, 8 * GIB - 3, 8 * GIB + 4090):
            os.pwrite(file.fileno(), b"here %12d" % offset, offset)
    size = huge.stat().st_size
    if shutil.disk_usage(tmp_path).free < 2 * GIB or size < 8 * GIB:
        pytest.skip("too little room, or no sparse files here")
    answer = backup_in_a_process(small_database.url, documents, storage_dir)
    assert answer["warnings"] == []
    assert answer["problems"] == []
    assert answer["peak_bytes"] < 250 * 10**6
    tar = subprocess.Popen(["tar", "xzOf", answer["path"], "documents/film.mov"], stdout=subprocess.PIPE)
    same = subprocess.run(["cmp", huge, "-"], stdin=tar.stdout, capture_output=True, text=True)
    assert tar.stdout is not None
    tar.stdout.close()
    assert tar.wait() == 0
    assert same.returncode == 0, same.stdout


@pytest.mark.heavy
def test_many_documents_in_one_folder_take_little_memory(
    small_database: SourceDatabase, storage_dir: Path, tmp_path: Path
) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    for number in range(40):
        (documents / f"photo-{number}.jpg").write_bytes(os.urandom(3_999_999 + 200_000 * (number % 5)))
    answer = backup_in_a_process(small_database.url, documents, storage_dir, threads=8)
    assert answer["problems"] == []
    assert answer["peak_bytes"] < 250 * 10**6


def test_an_empty_documents_folder_is_an_archive_too(
    small_database: SourceDatabase, storage_dir: Path, tmp_path: Path
) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    result = backup(small_database.url, documents, storage_dir)
    assert verify_archive(result.path, KEY).problems == []
    assert (result.manifest.documents.files, result.manifest.documents.folders) == (0, 1)
