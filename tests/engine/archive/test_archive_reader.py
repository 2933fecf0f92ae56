"""Reading parts of an archive: the manifest, one document and one table, each by a seek, never by a pass over all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.archive.gzip_members import FOOTER_SIZE, deflated_member, footer, parse_footer, stored_member
from app.engine.archive.reader import ArchiveReader, inflate, open_archive, parse_index_line, read_manifest
from app.engine.errors import ArchiveError
from app.engine.storage.local import LocalBlob
from app.engine.verify.verify import verify_archive
from tests.support.archives import KEY, Archive, backup
from tests.support.databases import SourceDatabase


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes in bytes of everything that is read by position."""
    sizes: list[int] = []
    real = os.pread

    def counted(fd: int, length: int, offset: int) -> bytes:
        data = real(fd, length, offset)
        sizes.append(len(data))
        return data

    monkeypatch.setattr("os.pread", counted)
    return sizes


@pytest.fixture(scope="module")
def big_archive(small_database: SourceDatabase, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """An archive of 30 MB: a large file that shrinks, one that does not, one of zeros, and 300 small ones."""
    folder = tmp_path_factory.mktemp("big")
    documents, storage = folder / "documents", folder / "backups"
    for path in (documents, storage):
        path.mkdir(mode=0o700)
    (documents / "photo.raw").write_bytes(os.urandom(21_000_001))
    (documents / "text.txt").write_bytes(b"".join(b"%d invoices\n" % number for number in range(900_000)))
    (documents / "zeros.bin").write_bytes(bytes(30_000_000))
    for number in range(300):
        (documents / f"small-{number:03}.txt").write_text(f"document {number}\n" * (number + 1))
    result = backup(small_database.url, documents, storage)
    return Archive(result.path, documents, result)


def _lines(reader: ArchiveReader) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in reader.index_lines())


def test_the_manifest_costs_one_seek_whatever_the_archives_size(big_archive: Archive, reads: list[int]) -> None:
    manifest = read_manifest(big_archive.path, KEY)
    assert manifest == big_archive.result.manifest
    assert manifest.signed
    assert len(reads) == 2
    assert reads[0] == FOOTER_SIZE
    assert sum(reads) < 20_000 < big_archive.path.stat().st_size


def test_one_document_is_read_through_its_index_line(big_archive: Archive, reads: list[int]) -> None:
    with open_archive(big_archive.path) as reader:
        lines = list(_lines(reader))
        found = next(line for line in lines if line["path"] == "small-123.txt")
        following = min(
            (line["member"] for line in lines if line["member"] > found["member"]),
            default=reader.manifest.documents.index_offset,
        )
        del reads[:]
        content = reader.member(found["member"], following - found["member"])[found["skip"] :][: found["size"]]
    assert content == (big_archive.documents / "small-123.txt").read_bytes()
    assert hashlib.sha256(content).hexdigest() == found["sha256"]
    assert sum(reads) < 300_000


@pytest.mark.parametrize("name", ["photo.raw", "text.txt", "zeros.bin"])
def test_one_large_document_is_streamed_in_bounded_parts(big_archive: Archive, name: str) -> None:
    with open_archive(big_archive.path) as reader:
        found = next(line for line in _lines(reader) if line["path"] == name)
        digest, skip, left = hashlib.sha256(), found["skip"], found["size"]
        for part in reader.stream(found["member"], reader.manifest.documents.index_offset):
            assert len(part) <= 1024 * 1024
            part, skip = part[skip:], max(0, skip - len(part))
            digest.update(part[:left])
            left = max(0, left - len(part))
            if not left:
                break
    assert left == 0
    assert digest.hexdigest() == found["sha256"] == hashlib.sha256((big_archive.documents / name).read_bytes()).hexdigest()


def test_one_table_is_read_through_its_segment(small_archive: Archive, reads: list[int]) -> None:
    with open_archive(small_archive.path) as reader:
        segment = next(s for s in reader.manifest.database.segments if s.table == "vehicles")
        del reads[:]
        text = b"".join(reader.segment_text(segment))
    assert sum(reads) == sum(segment.pieces)
    assert len(text) == segment.size_bytes
    assert text.splitlines() == [b"%d\tvehicle %d" % (number, number) for number in range(1, 501)]


def test_the_segments_joined_are_the_whole_dump(small_archive: Archive) -> None:
    with open_archive(small_archive.path) as reader:
        segments = reader.manifest.database.segments
        text = b"".join(piece for segment in segments for piece in reader.segment_text(segment))
    assert len(text) == reader.manifest.database.sql_bytes
    assert text.startswith(b"--\n-- PostgreSQL database dump\n")
    assert text.count(b"FROM stdin;\n") == 3
    assert text.count(b"\n\\.\n") == 3


def test_index_lines_are_parsed_to_entries_whose_headers_are_in_the_archive(small_archive: Archive) -> None:
    with open_archive(small_archive.path) as reader:
        for line in map(parse_index_line, reader.index_lines()):
            content = b"".join(reader.stream(line.member, reader.manifest.documents.index_offset))
            header = line.tar_header()
            assert content[line.skip - len(header) : line.skip] == header


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b"\xff", b'{"path": 1}'])
def test_a_line_that_is_none_is_an_archive_error(text: bytes) -> None:
    with pytest.raises(ArchiveError):
        parse_index_line(text)


@given(offset=st.integers(0, 2**64 - 1), length=st.integers(0, 2**64 - 1))
def test_a_footer_is_an_empty_gzip_member_that_tells_where_the_manifest_is(offset: int, length: int) -> None:
    data = footer(offset, length)
    assert len(data) == FOOTER_SIZE
    assert parse_footer(data) == (offset, length)
    assert inflate(data) == b""


@given(position=st.integers(0, FOOTER_SIZE - 1), mask=st.integers(1, 255))
def test_a_changed_footer_is_none_or_says_something_else(position: int, mask: int) -> None:
    data = bytearray(footer(123_456_789, 4321))
    data[position] ^= mask
    assert parse_footer(bytes(data)) != (123_456_789, 4321)


@pytest.mark.parametrize("data", [b"", bytes(FOOTER_SIZE), footer(1, 2)[1:], footer(1, 2) + b"\0"])
def test_other_bytes_are_no_footer(data: bytes) -> None:
    assert parse_footer(data) is None


@given(data=st.binary(max_size=3000), repeats=st.integers(1, 3000), chunk=st.integers(1, 70_000), stored=st.booleans())
def test_stream_yields_every_byte_whatever_the_chunk_size(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, repeats: int, chunk: int, stored: bool
) -> None:
    text = data * repeats
    make = stored_member if stored else deflated_member
    members = [b"".join(bytes(part) for part in make(part)) for part in (text, b"", text[::-1])]
    path = tmp_path_factory.getbasetemp() / f"members-{os.getpid()}"
    path.write_bytes(b"".join(members))
    reader = ArchiveReader.__new__(ArchiveReader)  # without a footer: only the streaming is of interest
    reader._blob = LocalBlob(path)
    reader.size = path.stat().st_size
    with reader:
        parts = list(reader.stream(0, reader.size, chunk=max(chunk, len(text) // 500)))
    assert b"".join(parts) == text + text[::-1]


def test_a_large_archive_verifies(big_archive: Archive) -> None:
    assert verify_archive(big_archive.path, KEY).problems == []


def test_a_missing_archive_is_an_archive_error(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"nothing\.tar\.gz"):
        read_manifest(tmp_path / "nothing.tar.gz")
