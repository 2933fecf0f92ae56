"""The number of threads, and how they share the interpreter."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

HANDOVER_SECONDS = 0.00005
"""How long a thread may keep the interpreter while another waits. Python's 5 ms is too long for threads that deflate, hash
and read for some 50 µs at a time: with it, two cores do the work of one."""


def threads_of_machine(wanted: int | None) -> int:
    """Return the number of threads to use: as requested, otherwise one per core that this process may use."""
    if wanted is not None:
        return max(1, wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def quick_handover() -> Iterator[None]:
    """Make this process's threads switch more often for the duration of the block."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(HANDOVER_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(usual)
