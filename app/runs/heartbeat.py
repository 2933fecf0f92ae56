"""Writes the progress of a run into its row, about once a second, from the engine's progress callback."""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import OperationalError

logger = structlog.get_logger(__name__)

WRITE_EVERY_SECONDS = 1.0
RETRY_AFTER_SECONDS = 5.0
# A metadata database that restarts must not cost a six-hour backup; one that stays away must not go unnoticed for ever.
SILENT_AT_MOST_SECONDS = 150.0

Write = Callable[[str, int, int | None], None]


class Heartbeat:
    """Calls `write` at each new phase, and about once a second in between. `last` is what the engine reported last."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._phase = ""
        self._due = 0.0
        self._last_success = time.monotonic()
        self.last: tuple[str, int, int | None] = ("", 0, None)

    def beat(self, phase: str, bytes_done: int, bytes_total: int | None) -> None:
        """Take the engine's progress, and write it if it is time. Raise what `write` raises.

        A metadata database that can't be reached is an error only after SILENT_AT_MOST_SECONDS.
        """
        self.last = (phase, bytes_done, bytes_total)
        now = time.monotonic()
        if phase == self._phase and now < self._due:
            return
        try:
            self._write(phase, bytes_done, bytes_total)
        except OperationalError:
            if now - self._last_success > SILENT_AT_MOST_SECONDS:
                raise
            logger.warning("heartbeat not written: the metadata database can't be reached")
            self._due = now + RETRY_AFTER_SECONDS
        else:
            self._last_success = now
            self._due = now + WRITE_EVERY_SECONDS
        self._phase = phase
