"""Read an archive of ours through its footer and manifest: one seek to each part, never a pass over the whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from isal import isal_zlib

from ..errors import ArchiveError
from ..source.documents import Document
from ..storage.interface import Blob, Storage
from ..storage.local import LocalStorage
from . import tar_headers
from .gunzip import GZIP, PART_BYTES, Gunzip, IsalError, joined
from .gzip_members import FOOTER_SIZE, parse_footer
from .manifest import Manifest, Segment, checked, parse

LONGEST_MEMBER = 48 * 1024 * 1024
"""The most bytes in a member, packed or unpacked: several times the largest that we write."""
LONGEST_MANIFEST = 64 * 1024 * 1024
"""Enough for the pieces of a dump of some 10 TB, or for 200,000 tables."""
LONGEST_LINE, LONGEST_UNSIGNED_LINE = 4 * 1024 * 1024, 64 * 1024
"""Of the index, in bytes. A path of 4,096 bytes takes 24 kB if all of them are escaped."""
MOST_UNSIGNED_ENTRIES = 500_000
MOST_UNSIGNED_INDEX = 1024**3
BYTES_PER_ENTRY = 128
"""Limits of entries and index bytes for an archive that our key has not signed; a large one may have an entry per 128 of its
bytes, and an index of ten times its size."""


@dataclass(frozen=True)
class IndexLine:
    """A line of documents.index.jsonl: the entry, its SHA-256 in hex, its member's offset, its content's place in it."""

    entry: Document
    sha256: str
    user: str
    group: str
    member: int
    skip: int

    def tar_header(self) -> bytes:
        """Return the tar header blocks that must precede the content."""
        entry = self.entry
        path = f"documents/{entry.path}" if entry.path else "documents"
        seconds = entry.mtime_ns // 1_000_000_000
        attributes = tar_headers.Attributes(entry.mode, seconds, entry.uid, entry.gid, self.user, self.group)
        return tar_headers.header(path, entry.kind, entry.size, attributes, entry.target)


def parse_index_line(line: bytes) -> IndexLine:
    """Parse a line of the index. Raise ArchiveError if it is invalid."""
    try:
        facts: dict[str, Any] = json.loads(line)
        shared = {name: facts.pop(name) for name in ("user", "group", "member", "skip")}
        shared["sha256"] = facts.pop("sha256", "")
        entry = checked(Document, {"size": 0, **facts, "folder": None})
        if entry.kind not in tar_headers.KINDS:
            raise ValueError(entry.kind)
        return checked(IndexLine, {"entry": entry, **shared})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArchiveError("A line of documents.index.jsonl can't be read; the archive is damaged.") from error


def inflate(data: bytes, limit: int = LONGEST_MEMBER) -> bytes:
    """Unpack exactly one gzip member.

    Raise ArchiveError if it is damaged, not exactly one, or unpacks to more than `limit` bytes.
    """
    announced = int.from_bytes(data[-4:], "little")  # ISIZE (RFC 1952, section 2.3.1): a member ends with its content's size
    if announced > limit:
        raise ArchiveError("A part of the archive is larger than any that this program writes; it was refused.")
    unpacker = isal_zlib.decompressobj(GZIP)
    try:
        # The memory for the content is doubled up to this limit; a higher one would mean new pages for every piece.
        content: bytes = unpacker.decompress(data, announced + 1)
    except IsalError as error:
        raise ArchiveError(f"A part of the archive can't be unpacked ({error}); it is damaged.") from error
    if not unpacker.eof or unpacker.unused_data:
        raise ArchiveError("A part of the archive is cut short or longer than it says; it is damaged.")
    return content


class ArchiveReader:
    """An open archive of format 1. It closes its blob, also if it raises ArchiveError because that is something else."""

    def __init__(self, blob: Blob, key: bytes | None = None) -> None:
        self._blob = blob
        self.size = blob.size
        try:
            self.manifest_offset, self.manifest_length = self._find_manifest()
            self.manifest_raw = self.read(self.manifest_offset, self.manifest_length)
            self.manifest_text = _manifest_text(self.manifest_raw)
            self.manifest: Manifest = parse(self.manifest_text, key)
            self._check_promises()
        except BaseException:
            blob.close()
            raise

    def _find_manifest(self) -> tuple[int, int]:
        found = parse_footer(self.read(max(0, self.size - FOOTER_SIZE), min(FOOTER_SIZE, self.size)))
        if found is None:
            raise ArchiveError(
                "The archive has no footer of ours at its end: it was cut short, damaged, or made by another program."
            )
        offset, length = found
        if length > LONGEST_MANIFEST or offset + length + FOOTER_SIZE != self.size:
            raise ArchiveError("The archive's footer does not fit its size; it is damaged.")
        return offset, length

    def _check_promises(self) -> None:
        """Refuse an unsigned manifest whose documents would take too much work to read."""
        documents = self.manifest.documents
        if min(documents.files, documents.folders, documents.symlinks, documents.bytes, documents.index_bytes) < 0:
            raise ArchiveError("The manifest contradicts itself; the archive is damaged or forged.")
        if self.manifest.signed:
            return
        if documents.entries > max(MOST_UNSIGNED_ENTRIES, self.size // BYTES_PER_ENTRY) or documents.index_bytes > max(
            MOST_UNSIGNED_INDEX, 10 * self.size
        ):
            raise ArchiveError("The archive is not signed and has more documents than are read then; it was refused.")

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` raw bytes at `offset`. Raise ArchiveError if there are fewer, or they can't be read."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise ArchiveError("The archive's parts do not lie where its manifest says; it is damaged.")
        parts: list[bytes] = []
        while length:
            try:
                part = self._blob.read_at(offset, length)
            except OSError as error:
                raise ArchiveError(f"The archive can't be read ({error.strerror}); check its disk.") from error
            if not part:
                raise ArchiveError("The archive is shorter than its manifest says; it is damaged.")
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def member(self, offset: int, length: int, limit: int = LONGEST_MEMBER) -> bytes:
        """Return the content, at most `limit` bytes, of the gzip member at `offset` that is `length` bytes long."""
        if length > LONGEST_MEMBER:
            raise ArchiveError("A part of the archive is larger than any that this program writes; it was refused.")
        return inflate(self.read(offset, length), min(limit, LONGEST_MEMBER))

    def stream(self, offset: int, end: int, chunk: int = PART_BYTES) -> Iterator[bytes]:
        """Yield the content of the members between two offsets, in parts of 64 KiB to about 1 MiB. `chunk`: the most bytes
        to read at once."""
        try:
            yield from joined(Gunzip(self._raw(offset, end, chunk)).parts())
        except IsalError as error:
            raise ArchiveError(f"A part of the archive can't be unpacked ({error}); it is damaged.") from error

    def _raw(self, offset: int, end: int, chunk: int) -> Iterator[bytes]:
        while offset < end:
            data = self.read(offset, min(chunk, end - offset))
            offset += len(data)
            yield data

    def index_lines(self) -> Iterator[bytes]:
        """Yield the lines of documents.index.jsonl."""
        try:
            yield from self._index_lines()
        except ArchiveError as error:
            raise ArchiveError(f"documents.index.jsonl: {error}") from error

    def _index_lines(self) -> Iterator[bytes]:
        documents = self.manifest.documents
        longest = LONGEST_LINE if self.manifest.signed else LONGEST_UNSIGNED_LINE
        lead = len(tar_headers.header("documents.index.jsonl", "file", size=documents.index_bytes))
        left, rest, lines_left = documents.index_bytes, b"", documents.entries
        for content in self.stream(documents.index_offset, self.manifest_offset) if left else ():
            if lead:
                cut = min(lead, len(content))
                lead, content = lead - cut, content[cut:]
            content = content[:left]
            left -= len(content)
            lines = content.split(b"\n")
            lines[0] = rest + lines[0]
            rest = lines[-1]
            lines_left -= len(lines) - 1
            if max(map(len, lines)) > longest or lines_left < 0:
                raise ArchiveError("It has more or longer lines than the manifest allows; the archive is damaged or forged.")
            del lines[-1]
            yield from lines
            if not left:
                break  # a verification finds what follows the end
        if left or rest:
            raise ArchiveError("It is shorter than the manifest says; the archive is damaged.")

    def segment_text(self, segment: Segment) -> Iterator[bytes]:
        """Yield the text of a segment of the dump, piece by piece."""
        offset = segment.offset
        for length in segment.pieces:
            yield inflate(self.member(offset, length))
            offset += length

    def close(self) -> None:
        self._blob.close()

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _manifest_text(member: bytes) -> bytes:
    """Return manifest.json's bytes from its gzip member."""
    try:
        content = inflate(member, len(member))  # it is stored, so its content can't be larger than the member
        size = int(content[124:135], 8)
    except ArchiveError as error:
        raise ArchiveError(f"manifest.json: {error}") from error
    except ValueError as error:
        raise ArchiveError("The manifest's tar header can't be read; the archive is damaged.") from error
    return content[tar_headers.BLOCK : tar_headers.BLOCK + size]


def open_stored(storage: Storage, name: str, key: bytes | None = None) -> ArchiveReader:
    """Open an archive of a storage. Raise ArchiveError if it can't be opened, or is not of format 1."""
    try:
        blob = storage.open(name)
    except OSError as error:
        raise ArchiveError(f"The archive {name} can't be opened: {error.strerror}.") from error
    return ArchiveReader(blob, key)


def open_archive(path: Path, key: bytes | None = None) -> ArchiveReader:
    """Open an archive that lies anywhere on this machine: one named on a command line, or one that has no name yet. Raise
    ArchiveError."""
    return open_stored(LocalStorage(path.parent), path.name, key)


def read_manifest(path: Path, key: bytes | None = None) -> Manifest:
    """Read an archive's manifest with one seek; with a key, its `signed` says whether that key signed it. Raise
    ArchiveError."""
    with open_archive(path, key) as reader:
        return reader.manifest
