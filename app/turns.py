"""Limit how many requests a web process works on at once.

A request holds a turn while the app computes its response. While it only waits, for a slow client or for a lock, it gives
the turn back, so that waiting costs a sleeping thread and never blocks other requests. Outside our own web server (tests,
commands, worker) there are no turns, and nothing here has any effect.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class ClientTooSlow(ConnectionResetError):
    """A client sent or received too little in its time. Our server handles it like a lost connection."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "The client was too slow.")


class Turns:
    """A limited number of turns for the threads of this process."""

    def __init__(self, number: int) -> None:
        self._free = threading.Semaphore(number)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for a free turn and hold it during the block."""
        self._free.acquire()
        _thread.turns = self
        try:
            yield
        finally:
            _thread.turns = None
            self._free.release()

    @contextmanager
    def given_back(self) -> Iterator[None]:
        """Release this thread's turn for the block, and wait for one again at its end."""
        _thread.turns = None
        self._free.release()
        try:
            yield
        finally:
            self._free.acquire()
            _thread.turns = self


class _Thread(threading.local):
    turns: Turns | None = None
    be_patient: Callable[[], None] | None = None


_thread = _Thread()


@contextmanager
def waiting() -> Iterator[None]:
    """Hold no turn during the block, which waits for something."""
    if _thread.turns is None:
        yield
        return
    with _thread.turns.given_back():
        yield


@contextmanager
def with_patience(be_patient: Callable[[], None]) -> Iterator[None]:
    """Set the function that `expect_long_body` calls in this thread."""
    _thread.be_patient = be_patient
    try:
        yield
    finally:
        _thread.be_patient = None


def expect_long_body() -> None:
    """Lift the deadline for the current request's body: an upload by somebody who may upload."""
    if _thread.be_patient is not None:
        _thread.be_patient()
