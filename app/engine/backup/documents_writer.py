"""Write the documents' part of an archive: small files in batches, large ones in pieces, and one index line per entry."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ..archive import tar_headers
from ..archive.gzip_members import is_worth_deflating, member
from ..archive.layout import INDEX_NAME
from ..archive.manifest import DocumentsPart
from ..archive.writer import Built, MemberPipeline, disk_error
from ..progress import Meter
from ..source import documents
from ..source.documents import Document, Incomplete, Skipped, named
from ..system.folders import Folder
from .documents_packing import Batch, IndexLine, changed_warning, index_line, pack, tar_header
from .packers import InSlot, Packers

LARGE_FILE = 4 * 1024 * 1024
PIECE_BYTES = 4 * 1024 * 1024
BATCH_BYTES = 1024 * 1024
BATCH_ENTRIES = 200
OPEN_FOLDERS = 384
"""The most folders that all batches in progress keep open for their files. A walk through 16,000 levels has 320 more open,
and many systems allow 1,024 descriptors."""
INDEX_IN_MEMORY = 16 * 1024 * 1024

INCOMPLETE = (
    "of the documents have extended attributes, ACLs, capabilities or flags of chattr, which backups do not keep; set them "
    "again after a restore"
)
INCOMPLETE_NAMED = 10


class DocumentsWriter:
    """Write the documents folder into the archive, with `packers` if there are any. Memory is bounded by the batches in
    progress."""

    def __init__(
        self,
        pipeline: MemberPipeline,
        meter: Meter,
        warn: Callable[[str], None],
        spool_folder: Path,
        packers: Packers | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._packers = packers
        self._meter = meter
        self._warn = warn
        self._index = tempfile.SpooledTemporaryFile(INDEX_IN_MEMORY, dir=str(spool_folder))  # noqa: SIM115
        self._index_digest = hashlib.sha256()
        self._index_size = 0
        self._counts = {"file": 0, "folder": 0, "symlink": 0}
        self._bytes = 0
        self._incomplete = 0
        self._incomplete_names: list[str] = []
        self._batch: list[Document] = []
        self._batch_bytes = 0
        self._batch_folders: set[Folder | None] = set()
        self._most_folders = max(1, OPEN_FOLDERS // (pipeline.limit + 1))

    def write(self, root: Path) -> DocumentsPart:
        """Write the whole documents folder and its index, and return what was written."""
        first_member = self._pipeline.file.offset
        for found in documents.walk(root):
            if isinstance(found, Incomplete):
                self._add_incomplete([found.path])
            elif isinstance(found, Skipped):
                self._warn(f"{named(found.path)}: {found.reason}; it is not in this backup.")
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
        if self._incomplete:
            names = ", ".join(named(path) or "the documents folder" for path in self._incomplete_names)
            more = ", …" if self._incomplete > len(self._incomplete_names) else ""
            self._warn(f"{self._incomplete} {INCOMPLETE}: {names}{more}.")
        return self._write_index(first_member)

    def _add_incomplete(self, paths: list[str]) -> None:
        self._incomplete += len(paths)
        self._incomplete_names += paths[: INCOMPLETE_NAMED - len(self._incomplete_names)]

    def close(self) -> None:
        with contextlib.suppress(OSError):  # a full disk; the index is no longer needed
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
            self._pipeline.submit(lambda: self._pack(batch), self._batch_written, size)

    def _pack(self, batch: list[Document]) -> Built[InSlot]:
        packed = self._packers.pack(batch) if self._packers is not None else None
        if packed is not None and packed.member is not None:
            return Built([packed.member], packed)
        parts, found = pack(batch)
        return Built([b"".join(parts)], InSlot(found))

    def _batch_written(self, offset: int, length: int, packed: InSlot) -> None:  # noqa: ARG002 - what every task is given
        packed.give_back()
        batch: Batch = packed.batch
        for warning in batch.warnings:
            self._warn(warning)
        self._add_incomplete(batch.incomplete)
        self._add_lines(batch.lines, offset)
        self._meter.add(batch.size)

    def _add_lines(self, lines: list[IndexLine], member_offset: int) -> None:
        text = b"".join([line.complete(member_offset) for line in lines])
        try:
            self._index.write(text)
        except OSError as error:
            raise disk_error(error, self._pipeline.file.path) from error
        self._index_digest.update(text)
        self._index_size += len(text)
        for line in lines:
            self._counts[line.kind] += 1
            self._bytes += line.size

    def _write_large(self, document: Document) -> None:
        self._pipeline.drain()
        mark = self._pipeline.file.mark()
        for attempt in (1, 2):
            try:
                fd, before = documents.open_file(document)
            except OSError as error:
                self._warn(f"{named(document.path)}: {documents.reason_of(error)}; it is not in this backup.")
                return
            try:
                entry = document._replace(
                    size=before.st_size,
                    mode=before.st_mode & 0o7777,
                    mtime_ns=before.st_mtime_ns,
                    uid=before.st_uid,
                    gid=before.st_gid,
                )
                sha256, read = self._write_pieces(fd, entry)
                changed = documents.has_changed(before, fd, read)
                more = documents.has_more(fd)
            except OSError as error:
                self._pipeline.drain()
                self._pipeline.file.take_back(mark)
                self._warn(f"{named(document.path)}: {documents.reason_of(error)}; it is not in this backup.")
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
        if more:
            self._add_incomplete([entry.path])
        self._add_lines([index_line(entry, sha256, len(tar_header(entry)))], mark.offset)

    def _write_pieces(self, fd: int, entry: Document) -> tuple[str, int]:
        """Write one large file and return (SHA-256 of the content in the archive, bytes actually read)."""
        digest, left, read = hashlib.sha256(), entry.size, 0
        lead = tar_header(entry)
        while left or lead:  # a file that became empty still needs its header
            data = os.read(fd, min(PIECE_BYTES, left))
            read += len(data)
            if not data:  # it shrank: a tar entry must be as long as its header says
                data = bytes(min(PIECE_BYTES, left))
            digest.update(data)
            left -= len(data)
            tail = b"" if left else tar_headers.padding(entry.size)
            self._pipeline.submit(partial(_piece, lead, data, tail), self._piece_written, len(data))
            lead = b""
        return digest.hexdigest(), read

    def _piece_written(self, offset: int, length: int, size: int) -> None:  # noqa: ARG002 - what every task is given
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
            self._pipeline.submit(
                partial(_piece, lead, data, tail), lambda _offset, _length, _size: self._meter.tick(), len(data)
            )
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


def _piece(lead: bytes, data: bytes, tail: bytes) -> Built[int]:
    """Build the member of a piece of a large entry: the header before the first piece, the padding behind the last."""
    parts = member([(is_worth_deflating(data), [buffer for buffer in (lead, data, tail) if buffer])])
    return Built([b"".join(parts)], len(data))
