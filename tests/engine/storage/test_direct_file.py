"""A file that is written past the page cache holds what was appended, whatever the sizes."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.engine.storage import direct_file
from app.engine.storage.direct_file import BLOCK, BUFFER_BYTES, DirectFile
from tests.support.file_limit import files_of_at_most

LENGTHS = [0, 1, 7, 511, BLOCK, BLOCK + 1, 300_000, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 5]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk that can be written past the page cache, by what the plain system calls say of it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as other:  # /tmp is often memory, /var/tmp hardly ever
        for folder in (tmp_path, Path(other)):
            if _keeps_direct_writes_out_of_memory(folder):
                yield folder
                return
        pytest.skip("neither the folder of the tests nor /var/tmp lies on a disk with O_DIRECT")


@pytest.fixture(params=["direct", "through the page cache"])
def file(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DirectFile]:
    folder = tmp_path
    if request.param == "direct":
        folder = request.getfixturevalue("disk")
    else:
        monkeypatch.setattr(direct_file, "_DIRECT", 0)
    file = DirectFile(folder / "file")
    assert file.is_direct == (request.param == "direct")
    yield file
    file.close()


def test_any_sizes_replacements_and_cuts_leave_what_a_plain_file_would_hold(file: DirectFile) -> None:
    chance, expected = random.Random(20261123), bytearray()
    pool = chance.randbytes(BUFFER_BYTES * 2)
    for _ in range(120):
        step = chance.choice(["append", "append", "append", "replace", "cut"])
        if step == "append":
            length = chance.choice(LENGTHS)
            file.append(memoryview(pool)[:length])
            expected += pool[:length]
        elif step == "replace" and len(expected) > 2000:
            offset = chance.choice([0, chance.randrange(len(expected) - 1999), len(expected) - 1999])
            file.replace(offset, b"x" * 1999)
            expected[offset : offset + 1999] = b"x" * 1999
        elif step == "cut":
            size = chance.choice([len(expected), chance.randint(0, len(expected)), max(0, len(expected) - 3)])
            file.cut(size)
            del expected[size:]
        assert file.size == len(expected)
    file.flush()
    assert _content(file) == expected


def test_a_replacement_may_begin_on_the_disk_and_end_in_what_is_held_back(file: DirectFile) -> None:
    file.append(bytes(BUFFER_BYTES + 100))
    file.replace(BUFFER_BYTES - 50, b"y" * 100)
    file.flush()
    assert _content(file) == bytes(BUFFER_BYTES - 50) + b"y" * 100 + bytes(50)


def _content(file: DirectFile) -> bytes:
    return os.pread(file.fd, os.fstat(file.fd).st_size + 1, 0)


def test_what_is_written_directly_stays_out_of_the_page_cache(disk: Path) -> None:
    file = DirectFile(disk / "file")
    try:
        file.append(bytes(4 * BUFFER_BYTES))
        assert file.held == 0
        assert _cached_pages(file.fd, 4 * BUFFER_BYTES) == 0
    finally:
        file.close()
    (disk / "file").read_bytes()
    with (disk / "file").open("rb") as plain:
        assert _cached_pages(plain.fileno(), 4 * BUFFER_BYTES) > 0, "this check can't see the page cache"


def _keeps_direct_writes_out_of_memory(folder: Path) -> bool:
    """Return what the file system does with a direct write: tmpfs takes it, but is memory."""
    if not hasattr(os, "O_DIRECT"):
        return False
    try:
        fd = os.open(folder / "probe", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a mistake of this probe is not to look like a disk that can't
            raise
        return False
    try:
        with mmap.mmap(-1, BLOCK) as block:
            os.pwrite(fd, block, 0)
        return _cached_pages(fd, BLOCK) == 0
    finally:
        os.close(fd)


def _cached_pages(fd: int, size: int) -> int:
    """Return how many pages of a file lie in the page cache (mincore(2))."""
    pages = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
    with mmap.mmap(fd, size, mmap.MAP_PRIVATE) as mapped:  # writable, or ctypes would not give its address
        view = (ctypes.c_char * size).from_buffer(mapped)
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mincore(ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(size), pages) == 0
        del view
    return sum(page & 1 for page in pages)


def test_a_file_system_without_direct_writes_gets_plain_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = direct_file.fcntl.fcntl, []

    def refuse(fd: int, command: int, argument: int = 0) -> int:
        asked.append(argument)
        if argument & direct_file._DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(fd, command, argument)

    monkeypatch.setattr(direct_file, "_DIRECT", 0o40000)
    monkeypatch.setattr(direct_file.fcntl, "fcntl", refuse)
    file = DirectFile(tmp_path / "file")
    assert any(argument & 0o40000 for argument in asked)
    assert not file.is_direct
    file.append(b"z" * (BUFFER_BYTES + 3))
    file.flush()
    file.close()
    assert (tmp_path / "file").read_bytes() == b"z" * (BUFFER_BYTES + 3)


def test_a_limit_in_the_middle_of_a_block_is_told_as_such(file: DirectFile) -> None:
    with pytest.raises(OSError, match="File too large") as caught, files_of_at_most(BUFFER_BYTES + 1000):
        file.append(bytes(3 * BUFFER_BYTES))
    assert caught.value.errno == errno.EFBIG
