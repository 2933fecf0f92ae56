"""Keeping the worker's memory as small as what it holds."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

LARGE_BLOCK = 4 * 1024 * 1024
KEPT = 32 * 1024 * 1024
ARENAS = 4
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


@functools.cache
def tune_malloc() -> None:
    """Have glibc give blocks of 4 MiB and more back to the system as soon as they are freed (mallopt(3), M_MMAP_THRESHOLD),
    keep up to 32 MiB of smaller ones in each arena for the next time (M_TRIM_THRESHOLD), and have no more than four arenas
    (M_ARENA_MAX), however many threads there are.

    Left alone it raises the first limit with every such block it sees, up to 32 MiB, and keeps the blocks in an arena for
    each thread: some 150 MB that nobody uses. Told the first limit only it would keep nothing, and a restore would spend a
    tenth of its time on getting the same memory again for every piece. Does nothing with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, KEPT)
        mallopt(_M_ARENA_MAX, ARENAS)


@contextlib.contextmanager
def memory_limited(more: int) -> Iterator[None]:
    """Let this process grow by `more` bytes at most, enforced by the kernel. Beyond that any thread gets MemoryError.

    What children are started meanwhile inherit it. Does nothing where the system can't say how large the process is.
    """
    try:
        words = Path("/proc/self/statm").read_text().split()
        limit = int(words[5]) * resource.getpagesize() + more  # RLIMIT_DATA counts private writable memory (setrlimit(2))
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    except (OSError, IndexError, AttributeError):
        yield
        return
    if soft != resource.RLIM_INFINITY and soft <= limit:
        yield
        return
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
