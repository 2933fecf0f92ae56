"""The staging folder: the archive's documents written beside the live ones, every one checked by its hash."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ..archive.archive_reader import ArchiveReader, IndexLine, parse_index_line
from ..errors import RestoreError
from ..files.documents import Document, shown
from ..files.documents_writer import LARGE_FILE

LONGEST_NAME = 255
LONGEST_PATH = 4096
_NO_NAMES = frozenset((b"", b".", b".."))
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def check_path(path: str) -> None:
    """Given a path from an archive, raise RestoreError unless it stays below the folder it is unpacked to."""
    raw = os.fsencode(path)
    parts = raw.split(b"/")
    bad = b"\0" in raw or not _NO_NAMES.isdisjoint(parts)
    if bad or len(raw) > LONGEST_PATH or max(map(len, parts)) > LONGEST_NAME:
        raise RestoreError(
            f"The archive holds the document name {shown(path)[:200]!r}, which no backup makes; it was refused."
        )


def check_target(path: str, target: str) -> None:
    """Given a symlink's path and target, raise RestoreError if it leads out of the documents."""
    steps = [step for step in target.split("/") if step not in ("", ".")]
    up = next((number for number, step in enumerate(steps) if step != ".."), len(steps))
    # A ".." behind a name would lead to the parent of whatever that name links to.
    if os.path.isabs(target) or not target or "\0" in target or up > path.count("/") or ".." in steps[up:]:
        raise RestoreError(
            f"The archive holds the link {shown(path)[:200]!r}, which leads out of the documents; it was refused."
        )


class StagingFolder:
    """A new folder that is filled and then finished: folders get their modes and times last, links come last of all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folders: list[Document] = []
        self._links: list[Document] = []
        self.files = 0
        self._lock = threading.Lock()
        path.mkdir(mode=0o700)

    def add_folder(self, entry: Document) -> None:
        """Make a folder; its parent must have been made before."""
        if entry.path:
            check_path(entry.path)
            try:
                (self.path / entry.path).mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise _refused(entry, error) from error
        self._folders.append(entry)

    def add_parents(self, path: str) -> None:
        """Make the folders above a file that an archive has no entries for."""
        check_path(path)
        try:
            (self.path / path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise RestoreError(f"The folder of {shown(path)[:200]} can't be made: {error.strerror}.") from error

    def add_link(self, entry: Document) -> None:
        """Remember a symlink; it is made when no file is written any more, so that nothing is written through it."""
        check_path(entry.path)
        self._links.append(entry)

    def add_file(self, entry: Document, content: Iterator[bytes | memoryview], sha256: str | None) -> None:
        """Write a file from its content, at most `entry.size` bytes. Raise RestoreError if its hash or size differ."""
        check_path(entry.path)
        digest, written = hashlib.sha256(), 0
        try:
            fd = os.open(f"{self.path}/{entry.path}", _WRITE_FLAGS, 0o600)
        except OSError as error:
            raise _refused(entry, error) from error
        try:
            for part in content:
                digest.update(part)
                written += len(part)
                view = memoryview(part)
                while len(view):
                    view = view[os.write(fd, view) :]
            _set_facts(entry, fd)
        except OSError as error:
            raise _refused(entry, error) from error
        finally:
            os.close(fd)
        if written != entry.size or (sha256 is not None and digest.hexdigest() != sha256):
            raise RestoreError(f"The document {shown(entry.path)} is damaged in the archive.")
        with self._lock:
            self.files += 1

    def finish(self) -> None:
        """Make the links, give the folders their modes and times, and wait until all is on the disk."""
        for link in self._links:
            try:
                os.symlink(link.target, self.path / link.path)
                os.utime(self.path / link.path, ns=(link.mtime_ns, link.mtime_ns), follow_symlinks=False)
                if os.geteuid() == 0:
                    os.chown(self.path / link.path, link.uid, link.gid, follow_symlinks=False)
            except OSError as error:
                raise _refused(link, error) from error
        for folder in reversed(self._folders):
            _set_facts(folder, self.path / folder.path if folder.path else self.path)
        sync_filesystem(self.path)


def _set_facts(entry: Document, place: int | Path) -> None:
    if os.geteuid() == 0:
        os.chown(place, entry.uid, entry.gid)
    os.chmod(place, entry.mode)
    os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns))


def _refused(entry: Document, error: OSError) -> RestoreError:
    return RestoreError(f"The document {shown(entry.path)[:200]} can't be written: {error.strerror}.")


def sync_filesystem(path: Path) -> None:
    """Wait until everything written to the filesystem of `path` is on the disk (syncfs(2))."""
    if sys.platform != "linux":
        os.sync()
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(fd) != 0:
            raise RestoreError(f"The disk of {path} failed: {os.strerror(ctypes.get_errno())}.")
    finally:
        os.close(fd)


def remove_tree(path: Path) -> None:
    """Remove a folder of ours with all that is in it, whatever modes its folders have."""
    if not path.is_symlink() and path.is_dir():
        os.chmod(path, 0o700)
        for folder, names, _ in os.walk(path):
            for name in names:
                below = os.path.join(folder, name)
                if not os.path.islink(below):
                    os.chmod(below, 0o700)
        shutil.rmtree(path)


def groups(reader: ArchiveReader) -> Iterator[tuple[int, int, list[IndexLine]]]:
    """Given an archive of ours, yield (first byte, byte behind, entries) for each member of its documents."""
    group: list[IndexLine] = []
    for raw in reader.index_lines():
        line = parse_index_line(raw)
        if group and line.member != group[0].member:
            yield group[0].member, line.member, group
            group = []
        group.append(line)
    if group:
        yield group[0].member, reader.manifest.documents.index_offset, group


class DocumentsStager:
    """Unpacks the documents of an archive of ours in `threads` threads, beside whatever else goes on."""

    def __init__(self, reader: ArchiveReader, folder: StagingFolder, threads: int, count: Callable[[int], None]) -> None:
        self._reader = reader
        self._folder = folder
        self._count = count
        self._stop = threading.Event()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="stage")
        self._limit = threading.Semaphore(threads * 3)
        self._driver = ThreadPoolExecutor(1, thread_name_prefix="stage-index")
        self.done: Future[None] = self._driver.submit(self._run)

    def stop(self) -> None:
        """End the work; what is half done stays for the caller to remove."""
        self._stop.set()
        self._driver.shutdown(wait=True, cancel_futures=True)
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _run(self) -> None:
        futures: list[Future[None]] = []
        for start, end, lines in groups(self._reader):
            for line in lines:
                if line.entry.kind == "folder":
                    self._folder.add_folder(line.entry)
            if self._stop.is_set():
                raise RestoreError("The restore was stopped.")
            self._limit.acquire()
            futures.append(self._executor.submit(self._unpack, start, end, lines))
            while futures and futures[0].done():
                futures.pop(0).result()
        for future in futures:
            future.result()
        self._folder.finish()
        wanted = self._reader.manifest.documents.files
        if self._folder.files != wanted:
            raise RestoreError(f"The archive has {self._folder.files} documents, but its manifest says {wanted}.")

    def _unpack(self, start: int, end: int, lines: list[IndexLine]) -> None:
        try:
            if len(lines) == 1 and lines[0].entry.size > LARGE_FILE:
                self._folder.add_file(lines[0].entry, self._large(start, end, lines[0]), lines[0].sha256)
                return
            content = memoryview(self._reader.member(start, end - start))
            for line in lines:
                if line.entry.kind == "file":
                    data = content[line.skip : line.skip + line.entry.size]
                    self._folder.add_file(line.entry, iter([data]), line.sha256)
                elif line.entry.kind == "symlink":
                    self._folder.add_link(line.entry)
            self._count(len(content))
        finally:
            self._limit.release()

    def _large(self, start: int, end: int, line: IndexLine) -> Iterator[memoryview]:
        skip, left = line.skip, line.entry.size
        for content in self._reader.stream(start, end):
            if self._stop.is_set():
                raise RestoreError("The restore was stopped.")
            view = memoryview(content)
            cut = min(skip, len(view))
            skip, view = skip - cut, view[cut : cut + left]
            left -= len(view)
            if len(view):
                yield view
                self._count(len(view))
