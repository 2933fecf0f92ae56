"""The documents' part of an archive: small files in batches, large ones in pieces, and one index line for each entry."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from . import documents, tar_headers
from .archive_writer import Built, MemberPipeline, disk_error
from .documents import Document, Folder, ReadDocument, Skipped, shown
from .gzip_members import Buffer, is_worth_deflating, member
from .manifest import DocumentsPart
from .progress import Meter

LARGE_FILE = 4 * 1024 * 1024
PIECE_BYTES = 4 * 1024 * 1024
BATCH_BYTES = 1024 * 1024
BATCH_ENTRIES = 200
OPEN_FOLDERS = 512
"""A batch keeps the folders of its files open; all batches under way together no more than this."""
INDEX_IN_MEMORY = 16 * 1024 * 1024
INDEX_NAME = "documents.index.jsonl"
FOLDER_NAME = "documents"


class Warn(Protocol):
    def __call__(self, text: str, /) -> None: ...


def tar_path(path: str) -> str:
    """Given a document's path, return its name in the tar stream."""
    return f"{FOLDER_NAME}/{path}" if path else FOLDER_NAME


def tar_header(entry: Document) -> bytes:
    """Given an entry, return its tar header blocks."""
    return tar_headers.header(
        tar_path(entry.path),
        entry.kind,
        size=entry.size,
        mode=entry.mode,
        mtime=entry.mtime_ns // 1_000_000_000,
        uid=entry.uid,
        gid=entry.gid,
        user=tar_headers.user_name(entry.uid),
        group=tar_headers.group_name(entry.gid),
        target=entry.target,
    )


def index_facts(entry: Document, sha256: str = "") -> dict[str, Any]:
    """Given an entry, return its line in the index but for where it lies in the archive."""
    facts: dict[str, Any] = {"path": entry.path, "kind": entry.kind, "mode": entry.mode, "mtime_ns": entry.mtime_ns}
    facts |= {"uid": entry.uid, "gid": entry.gid}
    facts |= {"user": tar_headers.user_name(entry.uid), "group": tar_headers.group_name(entry.gid)}
    if entry.kind == "file":
        facts |= {"size": entry.size, "sha256": sha256}
    if entry.kind == "symlink":
        facts["target"] = entry.target
    return facts


class DocumentsWriter:
    """Writes the documents folder into the archive. Memory is bounded by the batches under way."""

    def __init__(self, pipeline: MemberPipeline, meter: Meter, warn: Warn, spool_folder: Path) -> None:
        self._pipeline = pipeline
        self._meter = meter
        self._warn = warn
        self._index = tempfile.SpooledTemporaryFile(INDEX_IN_MEMORY, dir=str(spool_folder))  # noqa: SIM115
        self._index_digest = hashlib.sha256()
        self._index_size = 0
        self._counts = {"file": 0, "folder": 0, "symlink": 0}
        self._bytes = 0
        self._batch: list[Document] = []
        self._batch_bytes = 0
        self._batch_folders: set[Folder | None] = set()
        self._most_folders = max(1, OPEN_FOLDERS // (pipeline.limit + 1))

    def write(self, root: Path) -> DocumentsPart:
        """Given the documents folder, write all of it and its index, and return what was written."""
        first_member = self._pipeline.file.offset
        for found in documents.walk(root):
            if isinstance(found, Skipped):
                self._warn(f"{shown(found.path)}: {found.reason}; it is not in this backup.")
            elif found.kind == "file" and found.size > LARGE_FILE:
                self._flush()
                self._write_large(found)
            else:
                self._batch.append(found)
                self._batch_bytes += found.size
                self._batch_folders.add(found.folder)
                if self._is_batch_full():
                    self._flush()
        self._flush()
        self._pipeline.drain()
        return self._write_index(first_member)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk; nobody needs the index any more
            self._index.close()

    def _is_batch_full(self) -> bool:
        return (
            self._batch_bytes >= BATCH_BYTES
            or len(self._batch) >= BATCH_ENTRIES
            or len(self._batch_folders) >= self._most_folders
        )

    def _flush(self) -> None:
        if self._batch:
            batch, size = self._batch, self._batch_bytes
            self._batch, self._batch_bytes, self._batch_folders = [], 0, set()
            self._pipeline.submit(lambda: pack(batch), self._batch_written, size)

    def _batch_written(self, offset: int, length: int, packed: Packed) -> None:
        for warning in packed.warnings:
            self._warn(warning)
        for facts, skip in packed.lines:
            self._add_line(facts, offset, skip)
        self._meter.add(packed.size)

    def _add_line(self, facts: dict[str, Any], member_offset: int, skip: int) -> None:
        line = json.dumps({**facts, "member": member_offset, "skip": skip}, separators=(",", ":")).encode() + b"\n"
        try:
            self._index.write(line)
        except OSError as error:
            raise disk_error(error, self._pipeline.file.path) from error
        self._index_digest.update(line)
        self._index_size += len(line)
        self._counts[facts["kind"]] += 1
        self._bytes += facts.get("size", 0)

    def _write_large(self, document: Document) -> None:
        self._pipeline.drain()
        mark = self._pipeline.file.mark()
        for attempt in (1, 2):
            try:
                fd, before = documents.open_file(document)
            except OSError as error:
                self._warn(f"{shown(document.path)}: {documents.reason_of(error)}; it is not in this backup.")
                return
            try:
                entry = replace(
                    document,
                    size=before.st_size,
                    mode=before.st_mode & 0o7777,
                    mtime_ns=before.st_mtime_ns,
                    uid=before.st_uid,
                    gid=before.st_gid,
                )
                sha256, read = self._write_pieces(fd, entry)
                changed = documents.has_changed(before, fd, read)
            except OSError as error:
                self._pipeline.drain()
                self._pipeline.file.take_back(mark)
                self._warn(f"{shown(document.path)}: {documents.reason_of(error)}; it is not in this backup.")
                return
            finally:
                os.close(fd)
            self._pipeline.drain()
            if not changed:
                break
            if attempt == 1:
                self._pipeline.file.take_back(mark)
        if changed:
            self._warn(changed_warning(entry.path, read, entry.size))
        self._add_line(index_facts(entry, sha256), mark.offset, len(tar_header(entry)))

    def _write_pieces(self, fd: int, entry: Document) -> tuple[str, int]:
        """Write one large file and return (SHA-256 of what the archive holds, bytes really read)."""
        digest, left, read = hashlib.sha256(), entry.size, 0
        lead = tar_header(entry)
        while left or lead:  # a file that has become empty still needs its header
            data = os.read(fd, min(PIECE_BYTES, left))
            read += len(data)
            if not data:  # it has shrunk: a tar entry must be as long as its header says
                data = bytes(min(PIECE_BYTES, left))
            digest.update(data)
            left -= len(data)
            tail = b"" if left else tar_headers.padding(entry.size)
            self._pipeline.submit(_Piece(lead, data, tail), self._piece_written, len(data))
            lead = b""
        return digest.hexdigest(), read

    def _piece_written(self, offset: int, length: int, size: int) -> None:
        self._meter.add(size)

    def _write_index(self, first_member: int) -> DocumentsPart:
        index_offset = self._pipeline.file.offset
        lead = tar_headers.header(INDEX_NAME, "file", size=self._index_size)
        try:
            self._index.seek(0)  # writes out what is still in memory
        except OSError as error:
            raise disk_error(error, self._pipeline.file.path) from error
        left = self._index_size
        while True:
            data = self._index.read(PIECE_BYTES)
            left -= len(data)
            tail = b"" if left else tar_headers.padding(self._index_size)
            self._pipeline.submit(_Piece(lead, data, tail), lambda offset, length, size: self._meter.tick(), len(data))
            lead = b""
            if not left:
                break
        self._pipeline.drain()
        return DocumentsPart(
            files=self._counts["file"],
            folders=self._counts["folder"],
            symlinks=self._counts["symlink"],
            bytes=self._bytes,
            index_offset=index_offset,
            index_bytes=self._index_size,
            index_sha256=self._index_digest.hexdigest(),
            first_member=first_member,
        )


class _Piece:
    """A piece of a large entry, built in a thread."""

    def __init__(self, lead: bytes, data: bytes, tail: bytes) -> None:
        self._buffers, self._size = (lead, data, tail), len(data)

    def __call__(self) -> Built[int]:
        lead, data, tail = self._buffers
        deflate = is_worth_deflating(data)
        parts = member([(deflate, [buffer for buffer in (lead, data, tail) if buffer])])
        return Built([b"".join(parts)], self._size)


def changed_warning(path: str, read: int, size: int) -> str:
    """Given a file that changed twice while it was read, return the warning about what the archive holds."""
    missing = f", the missing {size - read} bytes as zeros" if read < size else ""
    return f"{shown(path)}: it changed while it was read; this backup holds the {read} bytes that were read{missing}."


class Packed:
    """A batch of entries, ready to be a member. `lines` are (index facts, where the content begins in the member)."""

    def __init__(self) -> None:
        self.lines: list[tuple[dict[str, Any], int]] = []
        self.warnings: list[str] = []
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
        self.lines.append((index_facts(entry, sha256), self._position + len(head)))
        self._position += len(head) + len(data) + len(tail)
        self.size += len(data)


def pack(batch: list[Document]) -> Built[Packed]:
    """Given entries of modest size, read them and return them as one member with their index lines and warnings."""
    packed = Packed()
    for document in batch:
        if document.kind != "file":
            packed.add(document, b"", "")
            continue
        try:
            found: ReadDocument = documents.read_small(document)
        except OSError as error:
            packed.warnings.append(f"{shown(document.path)}: {documents.reason_of(error)}; it is not in this backup.")
            continue
        if found.changed:
            packed.warnings.append(changed_warning(document.path, found.document.size, found.document.size))
        packed.add(found.document, found.data, found.sha256)
    return Built([b"".join(member(packed.runs))], packed)
