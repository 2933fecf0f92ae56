"""Count the bytes of a long run, report progress to the caller, and detect a stall."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from .errors import StalledError

Progress = Callable[[str, int, int | None], None]
"""Receives (phase, bytes done, bytes in total or None). What it raises ends the run."""

REPORT_EVERY_SECONDS = 0.5
T = TypeVar("T")


class Meter:
    """Count bytes per phase and report at most every half second, even without progress.

    Whoever waits must call `tick` at least once a second. It raises StalledError when no byte was counted for
    `stall_seconds`, and passes on whatever the caller's progress function raises.
    """

    def __init__(self, report: Progress | None = None, stall_seconds: float = 600.0) -> None:
        self._report = report
        self._stall_seconds = stall_seconds
        self._phase = ""
        self._done = 0
        self._total: int | None = None
        self._worker: ThreadPoolExecutor | None = None
        self.watch: Callable[[], None] | None = None
        """Called with each report; what it raises ends the run."""
        self._last_report = self._last_move = time.monotonic()

    def phase(self, name: str, total: int | None = None) -> None:
        """Begin a phase of `total` bytes, if known."""
        self._phase, self._done, self._total = name, 0, total
        self._last_move = time.monotonic()
        self._tell()

    def add(self, count: int) -> None:
        """Count `count` more bytes of this phase."""
        if count:
            self._done += count
            self._last_move = time.monotonic()
        self.tick()

    def tick(self) -> None:
        """Report if a report is due, and raise StalledError if there was no progress for too long."""
        now = time.monotonic()
        if now - self._last_move > self._stall_seconds:
            minutes = self._stall_seconds / 60
            raise StalledError(
                f"No byte moved for {minutes:.0f} minutes in phase {self._phase!r}, so the run was ended; "
                "look for a lock or a hanging disk on the database server and the documents folder."
            )
        if now - self._last_report >= REPORT_EVERY_SECONDS:
            self._tell()

    def during(self, work: Callable[[], T], cancel: Callable[[], object]) -> T:
        """Do work that reports no progress, such as a long statement, and keep reporting that the run is alive.

        It runs in a thread of its own and never counts as stalled. If the caller's progress function raises, `cancel` is
        called, the work's end is waited for, and that is raised.
        """
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="patience")
        future = self._worker.submit(work)
        try:
            while not wait([future], REPORT_EVERY_SECONDS).done:
                self.alive()
        except BaseException:
            cancel()
            wait([future])
            raise
        return future.result()

    def alive(self) -> None:
        """Reset the stall timer although no byte was counted."""
        self._last_move = time.monotonic()
        self.tick()

    def _tell(self) -> None:
        self._last_report = time.monotonic()
        if self.watch is not None:
            self.watch()
        if self._report is not None:
            total = None if self._total is None else max(self._total, self._done)
            self._report(self._phase, self._done, total)
