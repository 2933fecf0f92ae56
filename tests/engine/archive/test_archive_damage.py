"""Damage to an archive: whatever byte is wrong or missing, verification says so, and never with an exception."""

from __future__ import annotations

import itertools
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.engine.archive.gzip_members import FOOTER_SIZE
from app.engine.archive.reader import open_archive
from app.engine.verify.verify import VerifyReport, verify_archive
from tests.support.archives import KEY, Archive, borders
from tests.support.processes import wait_until

SHARED_MEMORY = Path("/dev/shm")


class Copy:
    """A copy of an archive, in memory where the system has such a place, that can be damaged and mended again."""

    def __init__(self, path: Path, original: bytes) -> None:
        self.path = path
        self.original = original
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.pwrite(self._fd, original, 0)

    def flipped(self, position: int, mask: int) -> VerifyReport:
        """Verify with some bits of one byte turned over, then turn them back."""
        os.pwrite(self._fd, bytes([self.original[position] ^ mask]), position)
        report = verify_archive(self.path, KEY)
        os.pwrite(self._fd, self.original[position : position + 1], position)
        return report

    def cut(self, length: int) -> VerifyReport:
        """Verify with only the first `length` bytes left, then put the others back."""
        os.ftruncate(self._fd, length)
        report = verify_archive(self.path, KEY)
        os.pwrite(self._fd, self.original[length:], length)
        return report

    def replaced(self, data: bytes) -> VerifyReport:
        """Verify with other content altogether."""
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)
        return verify_archive(self.path, KEY)

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def copy(small_archive: Archive, tmp_path: Path) -> Iterator[Copy]:
    folder = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else tmp_path
    made = Copy(folder / f"archive-{os.getpid()}-{random.getrandbits(64):x}", small_archive.path.read_bytes())
    yield made
    made.close()
    made.path.unlink()


def _assert_found(report: VerifyReport, where: object) -> None:
    assert not report.ok, f"not found: {where}"
    assert report.problems, where
    assert all(problem.strip() and "\n" not in problem for problem in report.problems), where


def test_the_archive_itself_verifies(copy: Copy) -> None:
    report = verify_archive(copy.path, KEY)
    assert report.problems == []
    assert report.signed


def test_a_flipped_byte_at_any_of_500_positions_is_found(copy: Copy) -> None:
    chance = random.Random(2)
    for position in chance.sample(range(len(copy.original)), 500):
        mask = chance.choice([1, 2, 4, 8, 16, 32, 64, 128, 255, chance.randrange(1, 256)])
        _assert_found(copy.flipped(position, mask), (position, mask))
    assert verify_archive(copy.path, KEY).ok


def test_a_flipped_byte_anywhere_in_the_footer_is_found(copy: Copy) -> None:
    for position in range(len(copy.original) - FOOTER_SIZE, len(copy.original)):
        for mask in (1, 128, 255):
            _assert_found(copy.flipped(position, mask), (position, mask))


def test_a_flipped_byte_anywhere_in_the_first_member_is_found(copy: Copy) -> None:
    for position in range(borders(copy.original)[1]):
        _assert_found(copy.flipped(position, 1 << position % 8), position)


def test_a_flipped_byte_at_both_ends_and_within_every_member_is_found(copy: Copy) -> None:
    chance = random.Random(3)
    ends = borders(copy.original)
    for begin, end in itertools.pairwise(ends):
        chosen = {*range(begin, begin + 18), *range(end - 12, end), *(chance.randrange(begin, end) for _ in range(10))}
        for position in chosen:
            _assert_found(copy.flipped(position, chance.randrange(1, 256)), position)


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_a_flipped_bit_in_every_single_byte_is_found(copy: Copy) -> None:
    for position in range(len(copy.original)):
        _assert_found(copy.flipped(position, 1 << position % 8), position)


def test_a_cut_at_every_member_border_is_found(copy: Copy) -> None:
    ends = borders(copy.original)
    assert len(ends) > 8
    for length in ends[:-1]:
        _assert_found(copy.cut(length), length)


def test_a_cut_anywhere_is_found(copy: Copy) -> None:
    chance = random.Random(4)
    near_the_end = range(len(copy.original) - FOOTER_SIZE - 2, len(copy.original))
    for length in [*near_the_end, *(chance.randrange(len(copy.original)) for _ in range(100))]:
        _assert_found(copy.cut(length), length)


def test_a_member_left_out_doubled_or_exchanged_with_its_neighbour_is_found(copy: Copy) -> None:
    ends = borders(copy.original)
    members = [copy.original[begin:end] for begin, end in itertools.pairwise(ends)]
    for number in range(len(members)):
        without = members[:number] + members[number + 1 :]
        doubled = members[: number + 1] + members[number:]
        exchanged = members[:number] + members[number : number + 2][::-1] + members[number + 2 :]
        _assert_found(copy.replaced(b"".join(without)), ("left out", number))
        if number + 1 < len(members):
            _assert_found(copy.replaced(b"".join(doubled)), ("doubled", number))
            _assert_found(copy.replaced(b"".join(exchanged)), ("exchanged", number))


def test_bytes_added_at_the_end_are_found(copy: Copy) -> None:
    for more in (b"\0", bytes(512), copy.original[-FOOTER_SIZE:], copy.original):
        _assert_found(copy.replaced(copy.original + more), len(more))


@pytest.mark.parametrize("data", [b"", b"\0", b"\x1f\x8b", bytes(10_000), b"no archive " * 1000])
def test_a_file_that_is_no_archive_is_told_as_a_problem(copy: Copy, data: bytes) -> None:
    report = copy.replaced(data)
    _assert_found(report, data[:10])
    assert not report.signed
    assert report.manifest is None
    assert report.size_bytes == len(data)


def test_a_missing_file_and_a_folder_are_told_as_problems(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.tar.gz", tmp_path):
        _assert_found(verify_archive(path, KEY), path)


def test_the_problems_name_the_part_that_is_damaged(copy: Copy, small_archive: Archive) -> None:
    manifest = small_archive.result.manifest
    vehicles = next(segment for segment in manifest.database.segments if segment.table == "vehicles")
    with open_archive(copy.path) as reader:
        manifest_offset = reader.manifest_offset
    expected = {
        vehicles.offset + vehicles.pieces[0] // 2: "vehicles",
        manifest.documents.first_member + 30_000: "2/photo-1.jpg",
        manifest.documents.index_offset + 100: "documents.index.jsonl",
        manifest_offset + 1500: "manifest",
        len(copy.original) - 20: "footer",
    }
    for position, word in expected.items():
        report = copy.flipped(position, 255)
        assert any(word in problem for problem in report.problems), (position, word, report.problems)


def test_a_file_that_is_cut_while_it_is_read_is_a_problem(small_archive: Archive, tmp_path: Path) -> None:
    path = tmp_path / "copy.tar.gz"
    shutil.copy(small_archive.path, path)
    reader = open_archive(path)
    try:
        os.truncate(path, reader.size // 2)
        assert wait_until(lambda: path.stat().st_size < reader.size)
        _assert_found(verify_archive(path, KEY), "cut")
    finally:
        reader.close()


def test_a_disk_that_can_not_be_read_is_a_problem(copy: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faked: a bad sector can't be had for real without a device of our own."""
    real = os.pread

    def failing(fd: int, length: int, offset: int) -> bytes:
        if offset <= 20_000 < offset + length:
            raise OSError(5, "Input/output error")
        return real(fd, length, offset)

    monkeypatch.setattr("os.pread", failing)
    report = verify_archive(copy.path, KEY)
    _assert_found(report, "unreadable")
    assert any("Input/output error" in problem for problem in report.problems)
