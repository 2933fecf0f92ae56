"""gzip members: whatever is put in comes out of Python's own gzip."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.engine.archive.gzip_members import (
    STORED_LIMIT,
    Buffer,
    deflated_member,
    is_worth_deflating,
    member,
    stored_blocks,
    stored_member,
)
from app.engine.archive.reader import LONGEST_MEMBER, inflate
from app.engine.errors import ArchiveError

_RUN = st.tuples(st.booleans(), st.lists(st.binary(max_size=5000), max_size=4))


def _joined(parts: list[Buffer]) -> bytes:
    return b"".join(bytes(part) for part in parts)


def _big(size: int) -> bytes:
    return random.Random(size).randbytes(size)


@given(runs=st.lists(_RUN, max_size=6))
@example(runs=[])
@example(runs=[(True, [])])
@example(runs=[(True, [b"a" * 40_000]), (False, [b"b" * 40_000]), (True, [b"a" * 40_000])])
def test_a_member_of_any_runs_unpacks_to_what_went_in(runs: list[tuple[bool, list[bytes]]]) -> None:
    data = _joined(member(runs))
    expected = b"".join(buffer for _, buffers in runs for buffer in buffers)
    assert gzip.decompress(data) == expected
    assert inflate(data) == expected


@pytest.mark.parametrize("size", [0, 1, STORED_LIMIT - 1, STORED_LIMIT, STORED_LIMIT + 1, 3 * STORED_LIMIT, 2_000_000])
def test_stored_bytes_of_any_size_unpack(size: int) -> None:
    data = _big(size)
    made = _joined(stored_member(data))
    assert gzip.decompress(made) == data
    assert len(made) - size <= 20 + 5 * (size // STORED_LIMIT + 1)


@pytest.mark.parametrize("size", [0, 1, 70_000, 4_000_000])
def test_deflated_bytes_of_any_size_unpack(size: int) -> None:
    for data in (_big(size), bytes(size), (b"%d" % size) * (size // 4)):
        assert gzip.decompress(_joined(deflated_member(data[: size // 2], memoryview(data)[size // 2 :]))) == data


@given(parts=st.lists(st.binary(max_size=200), max_size=5))
def test_members_behind_each_other_are_one_stream(parts: list[bytes]) -> None:
    data = b"".join(_joined(deflated_member(part)) + _joined(stored_member(part)) for part in parts)
    assert gzip.decompress(data) == b"".join(part + part for part in parts)


@given(data=st.binary(max_size=200_000))
def test_stored_blocks_are_plain_deflate_without_an_end(data: bytes) -> None:
    unpacker = zlib.decompressobj(-15)
    assert unpacker.decompress(_joined(stored_blocks([data]))) == data
    assert not unpacker.eof


def test_text_is_worth_deflating_and_noise_is_not() -> None:
    assert is_worth_deflating(b"Oil change, brake fluid, two tyres\n" * 10_000)
    assert is_worth_deflating(bytes(1_000_000))
    assert not is_worth_deflating(_big(1_000_000))
    assert not is_worth_deflating(gzip.compress(_big(500_000).hex().encode()))


@pytest.mark.parametrize("head", [b"\xff\xd8\xff\xe0", b"PK\x03\x04", b"\0\0\0\x18ftypheic", b"RIFF\x10\0\0\0WEBP"])
def test_files_that_are_compressed_already_are_known_by_their_first_bytes(head: bytes) -> None:
    assert not is_worth_deflating(head + b"metadata " * 10_000)
    assert is_worth_deflating(b"metadata " * 10_000 + head)


def test_the_probe_looks_at_the_middle_not_at_a_compressible_head() -> None:
    assert not is_worth_deflating(bytes(50_000) + _big(900_000))


@given(data=st.binary(max_size=100_000))
def test_the_probe_takes_bytes_of_any_size(data: bytes) -> None:
    assert is_worth_deflating(data) in (True, False)
    assert is_worth_deflating(memoryview(data)) == is_worth_deflating(data)


@given(data=st.binary(min_size=1, max_size=2000), cut=st.integers(1, 1000))
def test_a_cut_or_doubled_member_is_no_member(data: bytes, cut: int) -> None:
    made = _joined(deflated_member(data))
    for wrong in (made[: max(0, len(made) - cut)], made + made, made + b"\0"):
        with pytest.raises(ArchiveError):
            inflate(wrong)


@pytest.mark.parametrize("size", [0, 1, 70_000, 5_000_000])
@pytest.mark.parametrize("announced", [0, 1, 69_999, 70_001, 4_999_999, 5_000_001, LONGEST_MEMBER])
def test_a_member_that_lies_about_its_size_is_no_member(size: int, announced: int) -> None:
    made = _joined(deflated_member(bytes(size)))[:-4] + announced.to_bytes(4, "little")
    if announced == size:
        assert inflate(made) == bytes(size)
    else:
        with pytest.raises(ArchiveError, match="damaged"):
            inflate(made)


@pytest.mark.parametrize("announced", [0, 1001, 2**32 - 1])
def test_a_member_beyond_the_limit_is_refused_whatever_it_announces(announced: int) -> None:
    bomb = _joined(deflated_member(bytes(50_000_000)))[:-4] + announced.to_bytes(4, "little")
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError):
            inflate(bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert inflate(_joined(deflated_member(bytes(1000))), 1000) == bytes(1000)
    with pytest.raises(ArchiveError, match="larger than any"):
        inflate(_joined(deflated_member(bytes(1001))), 1000)
