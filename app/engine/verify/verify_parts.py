"""The parts of an archive that a verification reads back, each in a thread."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

from ..archive import tar_headers
from ..archive.budget import Budget
from ..archive.manifest import Segment
from ..archive.reader import ArchiveReader, IndexLine, inflate
from ..errors import ArchiveError
from ..source.documents import shown

CHUNK_BYTES = 4 * 1024 * 1024


@dataclass
class Check:
    """The result of checking a part: raw bytes read, problems, and for the dump the data to be hashed in order."""

    size: int
    problems: list[str] = field(default_factory=list)
    dump: bytes = b""
    rows: int = 0
    text_bytes: int = 0


class Part(Protocol):
    """A part of the archive that is checked in a thread. `weight` is the approximate memory in bytes that it takes."""

    @property
    def name(self) -> str: ...

    @property
    def weight(self) -> int: ...

    def check(self) -> Check: ...


def caught(part: Part) -> Check:
    """Check a part; unreadable data is a problem."""
    try:
        return part.check()
    # ValueError and OverflowError: an index that implies impossible tar headers
    except (ArchiveError, ValueError, OverflowError) as error:
        return Check(0, [f"{part.name}: {error}"])


class Frame:
    """Compare a stream with the bytes that must precede and follow a content of known size, without keeping it."""

    def __init__(self, head: bytes, size: int, tail: bytes) -> None:
        self._head, self._tail = head, tail
        self._edge = len(head) + size
        self._position = 0
        self.fits = True

    def take(self, part: bytes) -> memoryview:
        """Compare the next part, and return the content in it. After a mismatch no more needs to be taken."""
        start, self._position = self._position, self._position + len(part)
        head = part[: max(0, len(self._head) - start)]
        behind = part[max(0, self._edge - start) :]
        place = max(0, start - self._edge)
        if head != self._head[start : start + len(head)] or behind != self._tail[place : place + len(behind)]:
            self.fits = False
        return memoryview(part)[len(head) : max(len(head), self._edge - start)]

    @property
    def is_complete(self) -> bool:
        return self.fits and self._position == self._edge + len(self._tail)


@dataclass(frozen=True)
class DumpPiece:
    reader: ArchiveReader
    offset: int
    length: int
    segment: Segment
    budget: Budget

    @property
    def name(self) -> str:
        table = shown(f"{self.segment.schema}.{self.segment.table}")
        return f"table {table}" if self.segment.kind == "copy" else "the dump's statements"

    @property
    def weight(self) -> int:
        return 2 * self.length + self.segment.size_bytes // len(self.segment.pieces)

    def check(self) -> Check:
        self.budget.check()
        # The outer member is stored, so its content can't be larger than the member.
        inner = self.reader.member(self.offset, self.length, self.length)
        text = inflate(inner)
        rows = text.count(b"\n") if self.segment.kind == "copy" else 0
        return Check(self.length, dump=inner, rows=rows, text_bytes=len(text))


@dataclass(frozen=True)
class DocumentsMember:
    """Compare the content of a member with the headers, hashes and padding that the index requires."""

    reader: ArchiveReader
    start: int
    end: int
    lines: list[IndexLine]
    budget: Budget

    @property
    def name(self) -> str:
        first, last = (shown(line.entry.path) or "documents" for line in (self.lines[0], self.lines[-1]))
        return first if len(self.lines) == 1 else f"{len(self.lines)} documents from {first} to {last}"

    @property
    def weight(self) -> int:
        return min(self.end - self.start + sum(line.entry.size for line in self.lines), 2 * CHUNK_BYTES)

    def check(self) -> Check:
        check = Check(self.end - self.start)
        if len(self.lines) == 1 and self.lines[0].entry.kind == "file":
            self._file(check)
            return check
        self.budget.check()
        content = memoryview(self.reader.member(self.start, self.end - self.start))
        position = 0
        for line in self.lines:
            head, size = line.tar_header(), line.entry.size
            tail = tar_headers.padding(size)
            begin = position + len(head)
            data = content[begin : begin + size]
            fits = content[position:begin] == head and line.skip == begin and content[begin + size :][: len(tail)] == tail
            if not fits or (line.entry.kind == "file" and hashlib.sha256(data).hexdigest() != line.sha256):
                check.problems.append(f"{shown(line.entry.path)} is damaged")
            position = begin + size + len(tail)
        if position != len(content):
            check.problems.append("there is more in a part of the documents than its index says")
        return check

    def _file(self, check: Check) -> None:
        line = self.lines[0]
        head, digest = line.tar_header(), hashlib.sha256()
        frame = Frame(head, line.entry.size, tar_headers.padding(line.entry.size))
        for content in self.reader.stream(self.start, self.end):
            self.budget.check()
            digest.update(frame.take(content))
            if not frame.fits:
                break
        if not frame.is_complete or digest.hexdigest() != line.sha256 or line.skip != len(head):
            check.problems.append(f"{shown(line.entry.path)} is damaged")
