"""Keep the worker's memory close to what it uses."""

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
    """Make glibc return blocks of 4 MiB and more to the system as soon as they are freed (mallopt(3), M_MMAP_THRESHOLD),
    keep up to 32 MiB of smaller ones per arena for reuse (M_TRIM_THRESHOLD), and use at most four arenas (M_ARENA_MAX),
    with any number of threads.

    By default it raises the first limit with every such block, up to 32 MiB, and keeps the blocks in an arena per thread:
    some 150 MB of unused memory. With the first limit alone it would keep nothing, and a restore would spend a tenth of its
    time on getting the same memory again for every piece. Do nothing with another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BLOCK)
        mallopt(_M_TRIM_THRESHOLD, KEPT)
        mallopt(_M_ARENA_MAX, ARENAS)


@contextlib.contextmanager
def memory_limited(more: int) -> Iterator[None]:
    """Limit this process's growth to `more` bytes, enforced by the kernel. Beyond that any thread gets MemoryError.

    Children started meanwhile inherit the limit. Do nothing if the system can't say how large the process is.
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
