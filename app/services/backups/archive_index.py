"""Read an archive's index of documents: a folder's entries, search results, and one document's content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime

from app.engine.archive.reader import LONGEST_MEMBER, ArchiveReader, IndexLine, parse_index_line
from app.engine.errors import ArchiveError

LONGEST_SEARCH = 200
SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """A document, a symlink, or a folder with the number and the bytes of the documents anywhere below it.

    `path` is below documents/; bytes of it that are not UTF-8 are surrogate escapes (PEP 383).
    """

    path: str
    kind: str
    size_bytes: int
    documents: int
    modified_at: datetime | None = None
    sha256: str = ""
    target: str = ""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]


def content(reader: ArchiveReader, line: IndexLine) -> Generator[bytes]:
    """Yield a document's content in parts of at most 1 MiB. The last part is held back until the hash matches, so a damaged
    document never arrives complete. Raise ArchiveError."""
    skip, left, held = line.skip, line.entry.size, b""
    digest = hashlib.sha256()
    for part in reader.stream(line.member, reader.manifest.documents.index_offset) if left else ():
        cut = min(skip, len(part))
        skip, part = skip - cut, part[cut : cut + left]
        digest.update(part)
        left -= len(part)
        if held:
            yield held
        held = part
        if not left:
            break
    if left or digest.hexdigest() != line.sha256:
        raise ArchiveError("The document is damaged: its SHA-256 does not match.")
    yield held


def find(reader: ArchiveReader, path: str) -> IndexLine | None:
    """Return the index line of the document with that path, or None. Raise ArchiveError."""
    for line in reader.index_lines():
        facts = _facts(line)
        if facts.path == path and facts.kind == "file":
            return _checked(parse_index_line(line))
    return None


def _checked(line: IndexLine) -> IndexLine:
    """Return the line of a document. Raise ArchiveError if it is one that no writer of archives would write."""
    if not 0 <= line.skip <= LONGEST_MEMBER or line.entry.size < 0 or not SHA256.fullmatch(line.sha256):
        raise ArchiveError("The index line of this document is invalid; the archive is damaged.")
    return line


@dataclass(frozen=True, slots=True)
class _Facts:
    path: str
    kind: str
    size: int


def _facts(line: bytes) -> _Facts:
    """Return the fields that every index line must have; the rest is checked where it is used. Raise ArchiveError."""
    try:
        facts = json.loads(line)
        path, kind, size = facts["path"], facts["kind"], facts.get("size", 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArchiveError("A line of documents.index.jsonl can't be read; the archive is damaged.") from error
    if not (isinstance(path, str) and isinstance(kind, str) and isinstance(size, int)):
        raise ArchiveError("A line of documents.index.jsonl can't be read; the archive is damaged.")
    return _Facts(path, kind, size)


class Found:
    """The entries of one folder, or the search results below it, with no more of them in memory than the page needs."""

    def __init__(self, folder: str, search: str, wanted: int) -> None:
        self._folder = folder
        self._prefix = f"{folder}/" if folder else ""
        self._search = search
        self._wanted = wanted
        self._folders: dict[str, tuple[int, int]] = {}
        self._lines: list[bytes] = []
        self._files = 0
        self.documents = 0
        self.bytes = 0
        self.is_there = False

    @property
    def total(self) -> int:
        """The number of entries on all pages."""
        return len(self._folders) + self._files

    def add(self, line: bytes) -> None:
        """Add a line of the index. Raise ArchiveError."""
        facts = _facts(line)
        self.is_there = self.is_there or (facts.path == self._folder and facts.kind == "folder")
        if not facts.path.startswith(self._prefix) or facts.path in ("", self._folder):
            return
        self.is_there = True
        rest = facts.path[len(self._prefix) :]
        is_file = facts.kind == "file"
        self.documents += is_file
        self.bytes += facts.size if is_file else 0
        name, _, below = rest.partition("/")
        if self._search:
            if facts.kind != "folder" and self._search in rest.rpartition("/")[2].casefold():
                self._keep(line)
        elif below or facts.kind == "folder":
            number, size = self._folders.get(name, (0, 0))
            self._folders[name] = (number + is_file, size + (facts.size if is_file else 0))
        else:
            self._keep(line)

    def _keep(self, line: bytes) -> None:
        self._files += 1
        if len(self._lines) < self._wanted:
            self._lines.append(line)

    def window(self, start: int, end: int) -> list[Entry]:
        """Return the entries from `start` up to, but not including, `end`."""
        folders = [Entry(self._prefix + name, "folder", size, number) for name, (number, size) in self._folders.items()]
        lines = self._lines[max(0, start - len(folders)) : max(0, end - len(folders))]
        return folders[start:end] + [_entry(parse_index_line(line)) for line in lines]


def _entry(line: IndexLine) -> Entry:
    entry = line.entry
    return Entry(entry.path, entry.kind, entry.size, 1, time_of(entry.mtime_ns), line.sha256, entry.target)


def time_of(mtime_ns: int) -> datetime | None:
    """Convert nanoseconds since 1970; None if `datetime` can't represent the time."""
    try:
        return datetime.fromtimestamp(mtime_ns // 1_000_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
