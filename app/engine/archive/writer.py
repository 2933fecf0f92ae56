"""Writing an archive: members are built side by side by a few threads and written in order, under a temporary name."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ..errors import DiskFullError, EngineError, Subject
from ..progress import Meter
from ..storage.direct_file import DirectFile
from ..storage.interface import Buffer

Extra = TypeVar("Extra")
CHECK_EVERY_BYTES = 64 * 1024 * 1024
PENDING_PER_THREAD = 3
PENDING_BYTES = 24 * 1024 * 1024
WAIT_SECONDS = 0.5
_ADVICE = {
    errno.EROFS: "the file system is read-only, as it becomes after errors of its disk; look into the kernel's log (dmesg), "
    "repair it and mount it writable",
    errno.EACCES: "give this user the right to write there",
    errno.EPERM: "give this user the right to write there",
    errno.EIO: "the disk does not take what is written; look into the kernel's log (dmesg) and replace it",
    errno.ESTALE: "the network file system has lost the folder; mount it again",
    errno.ENOENT: "the folder is gone; mount it again",
}
"""What to do, by the errno of a failed write."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class Built(Generic[Extra]):
    """A member ready to be written, and its maker's extra, to be returned once it is."""

    parts: Sequence[Buffer]
    extra: Extra


@dataclass(frozen=True)
class Written(Generic[Extra]):
    """A member in the file: offset and length in bytes, and its maker's extra."""

    offset: int
    length: int
    extra: Extra


@dataclass(frozen=True)
class Mark:
    """A position to which an archive can be rolled back."""

    offset: int
    digest: hashlib._Hash


class ArchiveFile:
    """The growing file. Hashes what it writes, and keeps `reserve` bytes of the disk free.

    Raise DiskFullError when the space is used up.
    """

    def __init__(self, path: Path, reserve: int) -> None:
        self.path = path
        self._reserve = reserve
        self._unchecked = 0
        self._digest = hashlib.sha256()
        self._syncer: threading.Thread | None = None
        self._sync_error: OSError | None = None
        try:
            self._file = DirectFile(path)
        except OSError as error:
            raise disk_error(error, path) from error

    @property
    def offset(self) -> int:
        """The number of bytes written."""
        return self._file.size

    def write(self, parts: Iterable[Buffer], hashed: bool = True) -> tuple[int, int]:
        """Append the buffers and return (offset, length) in bytes."""
        start = self.offset
        try:
            for part in parts:
                if hashed:
                    self._digest.update(part)
                self._file.append(part)
        except OSError as error:
            raise disk_error(error, self.path) from error
        length = self.offset - start
        self._unchecked += length
        if self._unchecked > CHECK_EVERY_BYTES:
            self._unchecked = 0
            self._check_room()
            if not self._file.is_direct:
                self._sync_early()
        return start, length

    def _check_room(self) -> None:
        room = os.fstatvfs(self._file.fd)
        if room.f_bavail * room.f_frsize - self._file.held < self._reserve:
            raise DiskFullError(
                f"Less than {self._reserve // 1_000_000} MB are left on the disk of {self.path.parent}; "
                f"free some room or move {Subject.STORAGE}, then start the backup again."
            )

    def _sync_early(self) -> None:
        """Start writing back to the disk now, so that the final sync is short."""
        if self._syncer is None or not self._syncer.is_alive():
            self._syncer = threading.Thread(target=self._sync, args=[os.fdatasync], daemon=True)
            self._syncer.start()

    def _sync(self, call: Callable[[int], None]) -> None:
        try:
            call(self._file.fd)
        except OSError as error:  # kept: Linux reports a failed write only once, so the last fsync may not report it
            self._sync_error = self._sync_error or error

    def overwrite(self, offset: int, parts: Sequence[Buffer]) -> None:
        """Replace bytes that were written without being hashed."""
        try:
            self._file.replace(offset, b"".join(parts))
        except OSError as error:
            raise disk_error(error, self.path) from error

    def mark(self) -> Mark:
        """Return the current end, to roll back to."""
        return Mark(self.offset, self._digest.copy())

    def take_back(self, mark: Mark) -> None:
        """Discard everything written since `mark`."""
        self._file.cut(mark.offset)
        self._digest = mark.digest.copy()

    def digest_with(self, tail: bytes) -> str:
        """Return the SHA-256 in hex of all hashed bytes followed by `tail`."""
        digest = self._digest.copy()
        digest.update(tail)
        return digest.hexdigest()

    def sync(self, tick: Callable[[], None]) -> None:
        """Wait until every byte is on the disk, then drop the page cache, so that verifying reads the disk."""
        try:
            self._file.flush()
        except OSError as error:
            raise disk_error(error, self.path) from error
        self._join_syncer(tick)
        self._syncer = threading.Thread(target=self._sync, args=[os.fsync], daemon=True)
        self._syncer.start()
        self._join_syncer(tick)
        if self._sync_error is not None:
            raise disk_error(self._sync_error, self.path) from self._sync_error
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def _join_syncer(self, tick: Callable[[], None] = lambda: None) -> None:
        while self._syncer is not None and self._syncer.is_alive():
            self._syncer.join(WAIT_SECONDS)
            tick()

    def close(self) -> None:
        self._join_syncer()
        self._file.close()


def disk_error(error: OSError, path: Path) -> EngineError:
    """Return the error for a failed write, with what to do about it."""
    if error.errno in _NO_ROOM:
        return DiskFullError(
            f"The disk of {path.parent} is full, or a quota or file size limit was hit ({error.strerror}); "
            f"free some room or move {Subject.STORAGE}, then start the backup again."
        )
    advice = _ADVICE.get(error.errno or 0, "check that disk")
    return EngineError(f"Writing to {path.parent} failed ({error.strerror}): {advice}, then start the backup again.")


class MemberPipeline:
    """Build members in `threads` threads and write them to the file in another one, in the order of submission.

    At most `limit` are in progress, with at most PENDING_BYTES of input, unless a single one exceeds that.
    """

    def __init__(self, file: ArchiveFile, meter: Meter, threads: int) -> None:
        self.file = file
        self._meter = meter
        self.limit = threads * PENDING_PER_THREAD
        self._builders = ThreadPoolExecutor(threads, thread_name_prefix="member")
        # The disk must not hold up whoever reads the dump: pg_dump would wait, and the server with it.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="archive")
        self._pending: deque[tuple[Future[Written[object]], Callable[[int, int, object], None], int]] = deque()
        self._pending_bytes = 0

    def submit(self, build: Callable[[], Built[Extra]], done: Callable[[int, int, Extra], None], size: int) -> None:
        """Build a member of `size` bytes in a thread; once it is written, call `done(offset, length, extra)` in this
        thread."""
        while self._pending and (self._is_full(size) or self._pending[0][0].done()):
            self._finish_first()
        built = self._builders.submit(build)
        self._pending.append((self._writer.submit(self._write, built), done, size))  # type: ignore[arg-type]
        self._pending_bytes += size

    def _write(self, built: Future[Built[Extra]]) -> Written[Extra]:
        member = built.result()
        offset, length = self.file.write(member.parts)
        return Written(offset, length, member.extra)

    def _is_full(self, size: int) -> bool:
        return len(self._pending) >= self.limit or self._pending_bytes + size > PENDING_BYTES

    def drain(self) -> None:
        """Wait until everything pending is written."""
        while self._pending:
            self._finish_first()

    def _finish_first(self) -> None:
        future, done, size = self._pending[0]
        while True:
            try:
                written = future.result(WAIT_SECONDS)
                break
            except TimeoutError:
                if future.done():
                    raise
                self._meter.tick()
        self._pending.popleft()
        self._pending_bytes -= size
        done(written.offset, written.length, written.extra)

    def close(self) -> None:
        """Drop everything pending and end the threads."""
        for future, _, _ in self._pending:
            future.cancel()
        self._builders.shutdown(wait=False, cancel_futures=True)
        self._writer.shutdown(wait=True, cancel_futures=True)
        self._builders.shutdown(wait=True)


@contextlib.contextmanager
def writing(path: Path, reserve: int, meter: Meter, threads: int) -> Iterator[MemberPipeline]:
    """Yield a pipeline into a new file, keeping `reserve` bytes of the disk free."""
    file = ArchiveFile(path, reserve)
    pipeline = MemberPipeline(file, meter, threads)
    try:
        yield pipeline
    finally:
        pipeline.close()
        file.close()
