"""Verify that an archive is what was written: read back every byte, unpack it, and compare it with the manifest."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..archive import tar_headers
from ..archive.budget import Budget, cpu_seconds_for
from ..archive.gzip_members import stored_member
from ..archive.layout import INDEX_NAME, front, manifest_member
from ..archive.manifest import Manifest
from ..archive.reader import ArchiveReader, IndexLine, open_archive, parse_index_line
from ..errors import ArchiveError
from ..progress import Meter, Progress
from ..storage.interface import parts_of
from ..storage.local import LocalBlob
from ..system.memory import tune_malloc
from .verify_parts import CHUNK_BYTES, Check, DocumentsMember, DumpPiece, Frame, Part, caught

PROBLEMS_KEPT = 50
MOST_IN_MEMBER = 10_000
"""Entries in one member: fifty times as many as are written."""
PENDING_BYTES = 24 * 1024 * 1024
WAIT_SECONDS = 0.5


@dataclass(frozen=True)
class VerifyReport:
    """The result of a verification. `signed`: with this signing key. `sha256` is the whole file's, in hex."""

    problems: list[str]
    signed: bool
    sha256: str
    size_bytes: int
    manifest: Manifest | None
    verified_at: datetime

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def warnings(self) -> list[str]:
        return self.manifest.warnings if self.manifest else []


def verify_archive(
    path: Path,
    signing_key: bytes,
    progress: Progress | None = None,
    stall_seconds: float = 600.0,
    threads: int | None = None,
) -> VerifyReport:
    """Read an archive back completely. Damage is a problem in the report, not an exception.

    Memory is bounded by a few pieces per thread. Whatever `progress` raises ends the verification.
    """
    tune_malloc()
    meter = Meter(progress, stall_seconds)
    meter.phase("verify", path.stat().st_size if path.exists() else None)
    try:
        reader = open_archive(path, signing_key)
    except ArchiveError as error:
        sha256, size = _hash_file(path, meter)
        return VerifyReport([str(error)], False, sha256, size, None, datetime.now(UTC))
    with reader:
        return _Verification(reader, meter, max(1, threads or 2)).run()


def _hash_file(path: Path, meter: Meter) -> tuple[str, int]:
    """Return a file's SHA-256 in hex and its size in bytes; ("", 0) if it can't be read."""
    digest, size = hashlib.sha256(), 0
    try:
        with contextlib.closing(LocalBlob(path)) as blob:
            for part in parts_of(blob, CHUNK_BYTES):
                digest.update(part)
                size += len(part)
                meter.add(len(part))
    except OSError:
        return "", 0
    return digest.hexdigest(), size


class _Verification:
    def __init__(self, reader: ArchiveReader, meter: Meter, threads: int) -> None:
        self._reader = reader
        self._manifest = reader.manifest
        self._meter = meter
        self._problems: list[str] = []
        self._limit = threads * 3
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="verify")
        self._pending: list[tuple[Future[Check], Callable[[Check], None], int]] = []
        self._pending_bytes = 0
        self._stop = threading.Event()
        seconds = None if self._manifest.signed else cpu_seconds_for(reader.size)
        self._budget = Budget(seconds, time.process_time)

    def run(self) -> VerifyReport:
        hasher = ThreadPoolExecutor(1, thread_name_prefix="hash")
        hashes = hasher.submit(self._hashes)
        try:
            for step in (self._check_ends, self._check_dump, self._check_documents):
                try:
                    step()
                except ArchiveError as error:
                    self._problem(str(error))
                self._drain()
            while not hashes.done():
                threading.Event().wait(0.02)
                self._meter.tick()
            sha256, raw_sha256 = hashes.result()
        except ArchiveError as error:
            self._problem(str(error))
            sha256, raw_sha256 = "", ""
        finally:
            self._stop.set()
            self._executor.shutdown(wait=True, cancel_futures=True)
            hasher.shutdown(wait=True)
        if raw_sha256 != self._manifest.raw_sha256:
            self._problem("the archive's bytes are not those that its manifest was made for")
        signed = bool(self._manifest.signed)
        return VerifyReport(self._problems, signed, sha256, self._reader.size, self._manifest, datetime.now(UTC))

    def _problem(self, text: str) -> None:
        if len(self._problems) < PROBLEMS_KEPT:
            self._problems.append(text)

    def _hashes(self) -> tuple[str, str]:
        """Return the SHA-256 of the whole file and of the bytes that `raw_sha256` covers, in one pass over the disk."""
        reader, header = self._reader, self._manifest.header_bytes
        whole, raw = hashlib.sha256(), hashlib.sha256()
        first = reader.read(0, header)
        whole.update(first)
        offset = header
        while offset < reader.size and not self._stop.is_set():
            data = memoryview(reader.read(offset, min(CHUNK_BYTES, reader.size - offset)))
            whole.update(data)
            raw.update(data[: max(0, reader.manifest_offset - offset)])
            offset += len(data)
        raw.update(first)
        return whole.hexdigest(), raw.hexdigest()

    def _submit(self, work: Part, done: Callable[[Check], None]) -> None:
        while self._pending and (len(self._pending) >= self._limit or self._pending_bytes + work.weight > PENDING_BYTES):
            self._finish_first()
        self._pending.append((self._executor.submit(caught, work), done, work.weight))
        self._pending_bytes += work.weight

    def _drain(self) -> None:
        while self._pending:
            self._finish_first()

    def _finish_first(self) -> None:
        future, done, weight = self._pending.pop(0)
        while True:
            try:
                check = future.result(WAIT_SECONDS)
                break
            except TimeoutError:
                self._meter.tick()
        self._pending_bytes -= weight
        for problem in check.problems:
            self._problem(problem)
        done(check)
        self._meter.add(check.size)

    def _check_ends(self) -> None:
        manifest, reader = self._manifest, self._reader
        mtime = int(manifest.started_at.timestamp())
        try:
            head = b"".join(front(manifest.app, manifest.database.size_bytes, mtime))
        except ValueError as error:
            raise ArchiveError("The manifest's app name can't be a file's; the archive is damaged or forged.") from error
        if reader.read(0, manifest.header_bytes) != head:
            self._problem("the tar header of the dump is damaged")
        if reader.manifest_raw != b"".join(manifest_member(reader.manifest_text, mtime)):
            self._problem("the manifest's frame is damaged")

    def _check_dump(self) -> None:
        database = self._manifest.database
        total, sums = _Sum(), [_Sum() for _ in database.segments]
        digest, offset = hashlib.sha256(), self._manifest.header_bytes
        for segment, found in zip(database.segments, sums, strict=True):
            if segment.pieces and segment.offset != offset:
                raise ArchiveError("The parts of the dump do not follow each other; the archive is damaged.")
            for length in segment.pieces:
                self._submit(DumpPiece(self._reader, offset, length, segment, self._budget), _adder(found, total, digest))
                offset += length
        self._drain()
        for segment, found in zip(database.segments, sums, strict=True):
            if segment.kind == "copy" and found.rows != segment.rows:
                self._problem(f"table {segment.schema}.{segment.table} has {found.rows} rows, not {segment.rows}")
        if (digest.hexdigest(), total.dump_bytes, total.text_bytes) != (
            database.sha256,
            database.size_bytes,
            database.sql_bytes,
        ):
            self._problem("the dump is not the one that the manifest describes")
        tail = tar_headers.padding(database.size_bytes)
        expected = b"".join(stored_member(tail)) if tail else b""
        if self._reader.read(offset, len(expected)) != expected:
            self._problem("the padding behind the dump is damaged")
        if offset + len(expected) != self._manifest.documents.first_member:
            self._problem("the documents do not begin where the manifest says")

    def _check_documents(self) -> None:
        documents = self._manifest.documents
        counts, size = {"file": 0, "folder": 0, "symlink": 0}, 0
        end = documents.first_member
        for start, end, lines in self._groups():
            if start < documents.first_member:
                raise ArchiveError("The documents' index points outside the documents; the archive is damaged.")
            for line in lines:
                counts[line.entry.kind] += 1
                size += line.entry.size
            self._submit(DocumentsMember(self._reader, start, end, lines, self._budget), lambda _check: None)
        self._drain()
        if (counts["file"], counts["folder"], counts["symlink"], size) != (
            documents.files,
            documents.folders,
            documents.symlinks,
            documents.bytes,
        ):
            self._problem("the documents are not as many as the manifest says")
        if end != documents.index_offset:
            self._problem("there is something between the documents and their index")
        self._check_index()

    def _groups(self) -> Iterator[tuple[int, int, list[IndexLine]]]:
        """Yield (first byte, end, entries) of each member, or of each large file's members."""
        group: list[IndexLine] = []
        for raw in self._reader.index_lines():
            self._budget.check()
            line = parse_index_line(raw)
            if group and line.member != group[0].member:
                if line.member < group[0].member:
                    raise ArchiveError("The documents' index is out of order; the archive is damaged.")
                yield group[0].member, line.member, group
                group = []
            group.append(line)
            if len(group) > MOST_IN_MEMBER:
                raise ArchiveError("The documents' index has more entries for one part than are written; it was refused.")
        if group:
            yield group[0].member, self._manifest.documents.index_offset, group

    def _check_index(self) -> None:
        documents = self._manifest.documents
        lead = tar_headers.header(INDEX_NAME, "file", size=documents.index_bytes)
        digest, frame = hashlib.sha256(), Frame(lead, documents.index_bytes, tar_headers.padding(documents.index_bytes))
        for content in self._reader.stream(documents.index_offset, self._reader.manifest_offset):
            self._budget.check()
            digest.update(frame.take(content))
            self._meter.tick()
            if not frame.fits:
                break
        if not frame.is_complete or digest.hexdigest() != documents.index_sha256:
            self._problem("documents.index.jsonl is damaged")


@dataclass
class _Sum:
    """The combined result of the pieces of the dump, or of one of its segments."""

    rows: int = 0
    dump_bytes: int = 0
    text_bytes: int = 0

    def add(self, check: Check) -> None:
        self.rows += check.rows
        self.dump_bytes += len(check.dump)
        self.text_bytes += check.text_bytes


def _adder(found: _Sum, total: _Sum, digest: hashlib._Hash) -> Callable[[Check], None]:
    def add(check: Check) -> None:
        found.add(check)
        total.add(check)
        digest.update(check.dump)

    return add
