"""The staging folder: the archive's documents written beside the live ones, every one checked by its hash."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
from pathlib import Path

from ...archive.reader import ArchiveReader, IndexLine, parse_index_line
from ...backup.backup import Warnings
from ...backup.documents_writer import LARGE_FILE
from ...errors import RestoreError
from ...source.documents import LONGEST_PATH, Document, named, shown
from ...system.folders import FOLDER_FLAGS, Folder, FolderCursor
from ...system.links import LinksOnDisk, is_possible_target

LONGEST_NAME = 255
_NO_NAMES = frozenset((b"", b".", b".."))
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OFTEN_KEPT_NS = range(-(2**31) * 10**9, 2**31 * 10**9)
"""Times that every filesystem has (1901 to 2038)."""


class Trust(Enum):
    """Whether an archive's rights beyond those of its documents' owner are kept: only this installation's own are."""

    SIGNED = 0o7777
    FOREIGN = 0o777

    @property
    def modes(self) -> int:
        """Return the mode bits that are kept."""
        return self.value


def check_path(path: str, longest: int = LONGEST_PATH) -> None:
    """Raise RestoreError unless a path of an archive stays below the folder into which it is unpacked."""
    raw = os.fsencode(path)
    parts = raw.split(b"/")
    bad = b"\0" in raw or not _NO_NAMES.isdisjoint(parts)
    if bad or len(raw) > longest or max(map(len, parts)) > LONGEST_NAME:
        raise RestoreError(
            f"The archive holds the document name {shown(path)[:200]!r}, which no backup makes; it was refused."
        )


def link_refused(path: str) -> RestoreError:
    """Return the error for a link that leads out of the documents."""
    return RestoreError(
        f"The archive holds the link {shown(path)[:200]!r}, which leads out of the documents; it was refused."
    )


class StagingFolder:
    """A new folder that is filled and then finished: folders get their modes and times last, links come last of all.

    The threats, and the rules that answer them:

    - A link of the archive, or one that another user puts into the folder above meanwhile, leads what is made after it out
      of here. Nothing is made by path: the folder is opened once, when it is ours, empty and closed to all others, and
      what is in it is made relative to open folders that were reached without following a link. Links come last; an entry
      below one of them is refused.
    - Links that stay inside each by itself lead out together. When all are made, each is followed on the disk, step by step.
    - A file with the setuid bit gives its owner's rights to all: only a signed archive brings it.
    """

    def __init__(self, path: Path, trust: Trust = Trust.FOREIGN) -> None:
        self.path = path
        self._trust = trust
        self._folders: list[Document] = []
        self._links: list[Document] = []
        self.files = 0
        self.bytes = 0
        self.warnings = Warnings()
        self._modes_cut = 0
        self._as_root = os.geteuid() == 0
        self._lock = threading.Lock()
        self._root = _new_folder(path)
        self._cursors = threading.local()

    @property
    def identity(self) -> tuple[int, int]:
        """Return the folder's (device, inode), whatever lies at its path by now."""
        info = os.fstat(self._root.fd)
        return info.st_dev, info.st_ino

    def _folder(self, path: str) -> Folder:
        """Return the folder at `path`, made if it is missing. Raise OSError."""
        cursor: FolderCursor | None = getattr(self._cursors, "mine", None)
        if cursor is None:
            cursor = self._cursors.mine = FolderCursor(self._root)
        return cursor.to(path, make=True)

    def add_folder(self, entry: Document) -> None:
        """Make a folder, and those above it that are missing."""
        if entry.path:
            check_path(entry.path)
            parent, _, name = entry.path.rpartition("/")
            try:
                above = self._folder(parent)
                try:
                    os.mkdir(name, 0o700, dir_fd=above.fd)
                except FileExistsError:
                    if not stat.S_ISDIR(os.stat(name, dir_fd=above.fd, follow_symlinks=False).st_mode):
                        raise
            except OSError as error:
                raise _refused(entry, error) from error
        self._folders.append(entry)

    def add_link(self, entry: Document) -> None:
        """Remember a symlink; it is made when no file is written any more, so that nothing is written through it."""
        check_path(entry.path)
        if not is_possible_target(entry.target):
            self._leads_out(entry)
            return
        with self._lock:
            self._links.append(entry)

    def add_file(self, entry: Document, content: Iterator[bytes | memoryview], sha256: str | None) -> None:
        """Write a file from its content, at most `entry.size` bytes, and the folders above it that are missing.

        Raise RestoreError if its hash or size differ.
        """
        check_path(entry.path)
        parent, _, name = entry.path.rpartition("/")
        digest, written = hashlib.sha256(), 0
        try:
            fd = os.open(name, _WRITE_FLAGS, 0o600, dir_fd=self._folder(parent).fd)
        except OSError as error:
            raise _refused(entry, error) from error
        try:
            for part in content:
                digest.update(part)
                written += len(part)
                view = memoryview(part)
                while view:
                    view = view[os.write(fd, view) :]
            self._set_facts(entry, fd)
        except OSError as error:
            raise _refused(entry, error) from error
        finally:
            os.close(fd)
        if written != entry.size or (sha256 is not None and digest.hexdigest() != sha256):
            raise RestoreError(f"The document {shown(entry.path)} is damaged in the archive.")
        with self._lock:
            self.files += 1
            self.bytes += written

    def finish(self) -> None:
        """Make the links, give the folders their modes and times, and wait until all is on the disk."""
        for link in self._links:
            self._make_link(link)
        on_disk = LinksOnDisk(self._root)
        for link in self._links:
            parent, _, name = link.path.rpartition("/")
            folder = self._folder(parent)
            if on_disk.leads_out(link.path, link.target, folder):
                os.unlink(name, dir_fd=folder.fd)
                self._leads_out(link)
        # A folder's path sorts before those of what is in it, and a folder without rights can't be entered any more.
        self._folders.sort(key=lambda folder: folder.path, reverse=True)
        for entry in self._folders:
            try:
                self._set_facts(entry, self._folder(entry.path).fd)
            except OSError as error:
                raise _refused(entry, error) from error
        if self._modes_cut:
            self.warnings.add(
                f"{self._modes_cut} documents had the setuid, setgid or sticky bit; it was left out, because this "
                "installation has not signed the archive. Set it by hand where it is needed."
            )
        sync_filesystem(self._root, self.path)

    def _make_link(self, link: Document) -> None:
        parent, _, name = link.path.rpartition("/")
        try:
            above = self._folder(parent).fd
            os.symlink(link.target, name, dir_fd=above)
            os.utime(name, ns=(link.mtime_ns, link.mtime_ns), dir_fd=above, follow_symlinks=False)
            if self._as_root:
                os.chown(name, link.uid, link.gid, dir_fd=above, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise RestoreError(
                    f"The archive holds {shown(link.path)[:200]!r} below a link or a file, where no backup has anything; it "
                    "was refused."
                ) from error
            raise _refused(link, error) from error

    def _leads_out(self, link: Document) -> None:
        if self._trust is not Trust.SIGNED:
            raise link_refused(link.path)
        self.warnings.add(f"{named(link.path)}: the link leads out of the documents; it was not restored.")

    def _set_facts(self, entry: Document, fd: int) -> None:
        if self._as_root:
            os.chown(fd, entry.uid, entry.gid)
        os.chmod(fd, entry.mode & self._trust.modes)
        if entry.mode & ~self._trust.modes & 0o7777:
            with self._lock:
                self._modes_cut += 1
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        if entry.mtime_ns not in _OFTEN_KEPT_NS and os.fstat(fd).st_mtime_ns // 10**9 != entry.mtime_ns // 10**9:
            self.warnings.add(f"{named(entry.path)}: its time, far from now, is not one that this filesystem can hold.")


def _new_folder(path: Path) -> Folder:
    """Make a folder that nobody else may enter, and open it.

    Raise RestoreError if another folder is there at once: the owner of the parent folder may replace it.
    """
    os.mkdir(path, 0o700)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        folder = Folder(os.open(path, FOLDER_FLAGS))
        info = os.fstat(folder.fd)
        if info.st_uid == os.geteuid() and not stat.S_IMODE(info.st_mode) & 0o077 and not os.listdir(folder.fd):
            return folder
    raise RestoreError(
        f"The folder {path} was replaced while it was made. Find out which program does that, then restore again."
    )


def _refused(entry: Document, error: OSError) -> RestoreError:
    return RestoreError(f"The document {shown(entry.path)[:200]} can't be written: {error.strerror}.")


def sync_filesystem(folder: Folder, path: Path) -> None:
    """Wait until everything written to the filesystem of a folder is on the disk (syncfs(2))."""
    if sys.platform != "linux":
        os.sync()
        return
    if ctypes.CDLL(None, use_errno=True).syncfs(folder.fd) != 0:
        raise RestoreError(f"The disk of {path} failed: {os.strerror(ctypes.get_errno())}.")


def groups(reader: ArchiveReader) -> Iterator[tuple[int, int, list[IndexLine]]]:
    """Yield (first byte, byte behind, entries) for each member of the documents of an archive of ours."""
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
