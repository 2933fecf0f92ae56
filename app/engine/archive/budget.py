"""The budget of CPU time for reading an unsigned archive."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..errors import ArchiveLimitError

CPU_SECONDS = 18.0
CPU_PER_BYTES = 100 * 1000 * 1000


def cpu_seconds_for(size_bytes: int) -> float:
    """Return the CPU seconds for an archive of that size: 18, plus 18 for each 100 MB beyond the first."""
    return CPU_SECONDS * max(1.0, size_bytes / CPU_PER_BYTES)


def limit_error(what: str) -> ArchiveLimitError:
    """Return the error for an archive whose check takes more than `what`."""
    return ArchiveLimitError(
        f"Checking the archive takes more than {what}, as it does with malicious archives; it was refused. If you "
        "trust where it comes from, unpack it and pack database/ and documents/ again with `tar czf`."
    )


class Budget:
    """CPU time from now on, by the given clock: of this thread or of the whole process. None: no limit."""

    def __init__(self, seconds: float | None, clock: Callable[[], float] = time.thread_time) -> None:
        self._seconds = seconds
        self._clock = clock
        self._began = clock()

    def check(self) -> None:
        """Raise ArchiveLimitError if the budget is used up."""
        if self._seconds is not None and self._clock() - self._began > self._seconds:
            raise limit_error(f"{self._seconds:.0f} seconds of CPU time")
