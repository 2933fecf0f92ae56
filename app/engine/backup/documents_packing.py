"""Pack small files into members: read a batch of entries, deflate where that pays off, and build its index lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..archive import tar_headers
from ..archive.gzip_members import is_worth_deflating, member
from ..archive.tar_headers import Attributes
from ..source import documents
from ..source.documents import Document, ReadDocument, named
from ..storage.interface import Buffer

FOLDER_NAME = "documents"
_quoted = json.JSONEncoder().encode


def tar_path(path: str) -> str:
    """Return a document's name in the tar stream."""
    return f"{FOLDER_NAME}/{path}" if path else FOLDER_NAME


def tar_header(entry: Document) -> bytes:
    """Return an entry's tar header blocks."""
    user, group = tar_headers.user_name(entry.uid), tar_headers.group_name(entry.gid)
    attributes = Attributes(entry.mode, entry.mtime_ns // 1_000_000_000, entry.uid, entry.gid, user, group)
    return tar_headers.header(tar_path(entry.path), entry.kind, entry.size, attributes, entry.target)


def index_facts(entry: Document, sha256: str = "") -> str:
    """Return an entry's index line without its position in the archive: JSON that is still open.

    Only texts go through `json`: there may be millions of lines, and `json` takes three times as long for a whole one.
    """
    user, group = tar_headers.user_name(entry.uid), tar_headers.group_name(entry.gid)
    facts = (
        f'{{"path":{_quoted(entry.path)},"kind":"{entry.kind}","mode":{entry.mode},"mtime_ns":{entry.mtime_ns},'
        f'"uid":{entry.uid},"gid":{entry.gid},"user":{_quoted(user)},"group":{_quoted(group)}'
    )
    if entry.kind == "file":
        return f'{facts},"size":{entry.size},"sha256":"{sha256}"'
    return f'{facts},"target":{_quoted(entry.target)}' if entry.kind == "symlink" else facts


def changed_warning(path: str, read: int, size: int) -> str:
    """Return the warning about a file that changed twice while it was read."""
    missing = f", the missing {size - read} bytes as zeros" if read < size else ""
    return f"{named(path)}: it changed while it was read; this backup holds the {read} bytes that were read{missing}."


class IndexLine(NamedTuple):
    """An entry's index line without the member that holds it: `facts` is the JSON up to there, `skip` the number of bytes
    before the content in that member, `size` the content's."""

    facts: bytes
    kind: str
    size: int
    skip: int

    def complete(self, member_offset: int) -> bytes:
        """Return the whole line, for a member that begins at that offset of the archive."""
        return b'%b,"member":%d,"skip":%d}\n' % (self.facts, member_offset, self.skip)


def index_line(entry: Document, sha256: str, skip: int) -> IndexLine:
    """Build an entry's index line; `skip` is where its content begins in its member."""
    size = entry.size if entry.kind == "file" else 0
    return IndexLine(index_facts(entry, sha256).encode("ascii"), entry.kind, size, skip)


@dataclass(frozen=True)
class Batch:
    """A packed batch: its entries' lines, its warnings, its bytes of content, and the files that have more than an archive
    keeps."""

    lines: list[IndexLine]
    warnings: list[str]
    size: int
    incomplete: list[str]


class _Packing:
    """A growing member."""

    def __init__(self) -> None:
        self.lines: list[IndexLine] = []
        self.warnings: list[str] = []
        self.incomplete: list[str] = []
        self.size = 0
        self.runs: list[tuple[bool, list[Buffer]]] = []
        self._position = 0

    def add(self, entry: Document, data: bytes, sha256: str) -> None:
        head = tar_header(entry)
        deflate = not data or is_worth_deflating(data)
        if not data and self.runs:
            deflate = self.runs[-1][0]
        if not self.runs or self.runs[-1][0] != deflate:
            self.runs.append((deflate, []))
        tail = tar_headers.padding(len(data))
        self.runs[-1][1].extend(buffer for buffer in (head, data, tail) if buffer)
        self.lines.append(index_line(entry, sha256, self._position + len(head)))
        self._position += len(head) + len(data) + len(tail)
        self.size += len(data)


def pack(batch: list[Document], read: Callable[[Document], ReadDocument] | None = None) -> tuple[list[Buffer], Batch]:
    """Pack small entries into a member; return it and the packed batch."""
    read = read or documents.read_small
    packing = _Packing()
    for document in batch:
        if document.kind != "file":
            packing.add(document, b"", "")
            continue
        try:
            found = read(document)
        except OSError as error:
            packing.warnings.append(f"{named(document.path)}: {documents.reason_of(error)}; it is not in this backup.")
            continue
        if found.changed:
            packing.warnings.append(changed_warning(document.path, found.document.size, found.document.size))
        if found.has_more:
            packing.incomplete.append(found.document.path)
        packing.add(found.document, found.data, found.sha256)
    return member(packing.runs), Batch(packing.lines, packing.warnings, packing.size, packing.incomplete)
