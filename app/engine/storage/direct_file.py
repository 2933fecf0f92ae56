"""A new file that grows at its end, written past the page cache where the system and the disk can.

An archive is written once, and read again only from the disk, to be verified. Copied into the page cache on its way it
would push out what the app and its database read all the time, and the copying takes a good part of a core.
Source: open(2), O_DIRECT: the memory's address, the length and the offset must be multiples of the disk's block.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from .interface import Buffer

BLOCK = 4096
"""In bytes; no smaller than the blocks of any usual disk. Where they are larger the page cache is used."""
BUFFER_BYTES = 4 * 1024 * 1024
_DIRECT: int = getattr(os, "O_DIRECT", 0)


class DirectFile:
    """The file, open for reading and writing. What is appended is in it after the next `flush`, at the latest.

    Every method raises OSError as the calls of the system below it do.
    """

    def __init__(self, path: Path) -> None:
        self._held_in = mmap.mmap(-1, BUFFER_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._buffer = memoryview(self._held_in)
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(self.fd, bytes(BLOCK), 0)  # a disk without any room says so now, not when all that is held back is due
        except OSError:
            os.close(self.fd)
            raise
        self.is_direct = False
        self._start = 0
        self.held = 0
        """How many of the appended bytes are not in the file yet."""
        # Asked for at opening, a file system that knows no O_DIRECT would leave a new file and an error.
        with contextlib.suppress(OSError):
            self._go_direct(bool(_DIRECT))

    def _go_direct(self, wanted: bool) -> None:
        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        fcntl.fcntl(self.fd, fcntl.F_SETFL, flags | _DIRECT if wanted else flags & ~_DIRECT)
        self.is_direct = wanted

    @contextlib.contextmanager
    def _through_the_cache(self) -> Iterator[None]:
        """Allow reads and writes of partial blocks for the duration of the block."""
        was_direct = self.is_direct
        self._go_direct(False)
        try:
            yield
        finally:
            self._go_direct(was_direct)

    @property
    def size(self) -> int:
        """Return how many bytes were appended."""
        return self._start + self.held

    def append(self, data: Buffer) -> None:
        """Add bytes to the end."""
        view = memoryview(data)
        while view:
            piece = view[: BUFFER_BYTES - self.held]
            self._buffer[self.held : self.held + len(piece)] = piece
            self.held += len(piece)
            view = view[len(piece) :]
            if self.held == BUFFER_BYTES:
                self._write_out()

    def flush(self) -> None:
        """Hand all that is held back to the system; from here on the page cache is used."""
        self._go_direct(False)
        self._write_out()
        os.ftruncate(self.fd, self.size)

    def _write_out(self) -> None:
        done = 0
        while done < self.held:
            try:
                done += os.pwrite(self.fd, self._buffer[done : self.held], self._start + done)
            except OSError as error:
                if error.errno != errno.EINVAL or not self.is_direct:
                    raise
                self._go_direct(False)  # larger blocks than ours, or a full disk or a limit in the middle of one
        self._start += self.held
        self.held = 0

    def replace(self, offset: int, data: Buffer) -> None:
        """Overwrite bytes that were appended before."""
        view = memoryview(data)
        written = max(0, min(len(view), self._start - offset))
        if written:
            with self._through_the_cache():
                os.pwrite(self.fd, view[:written], offset)
        begin = offset + written - self._start
        self._buffer[begin : begin + len(view) - written] = view[written:]

    def cut(self, size: int) -> None:
        """Forget all behind the first `size` bytes."""
        if size < self._start:
            inside_block = size % BLOCK
            with self._through_the_cache():
                kept = os.pread(self.fd, inside_block, size - inside_block)
            os.ftruncate(self.fd, size)
            self._buffer[:inside_block] = kept
            self._start, self.held = size - inside_block, inside_block
        else:
            self.held = size - self._start

    def close(self) -> None:
        self._buffer.release()
        self._held_in.close()
        os.close(self.fd)
