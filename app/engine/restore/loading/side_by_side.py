"""Does work on several connections at once, each piece as soon as what it needs is done."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

import psycopg

from ...source.postgres import CANCEL_SECONDS, Connection

WAIT_SECONDS = 0.05
CANCEL_AGAIN_SECONDS = 0.5


@dataclass(eq=False)
class Task:
    """Work for one connection. Of the tasks that are ready the one with the greatest `weight` is begun first. `moves_bytes`:
    whether it counts what it does. `needs`: the tasks that have to be done before."""

    weight: int
    do: Callable[[Connection], None]
    moves_bytes: bool = False
    needs: list[Task] = field(default_factory=list)

    def before(self, *others: Task) -> None:
        """Let others wait for this one."""
        for other in others:
            other.needs.append(self)


class SideBySide:
    """Does tasks on connections, one thread for each. `_changed` guards what the threads share."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections
        self._executor = ThreadPoolExecutor(len(connections), thread_name_prefix="load")
        self._threads: list[Future[None]] = []
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._ready: list[tuple[int, int, Task]] = []
        self._order = itertools.count()
        self._tasks: TopologicalSorter[Task] = TopologicalSorter()
        self._silent = 0
        self.is_stopped = False
        """Whether no more tasks are begun."""

    def run(self, tasks: Iterable[Task], tick: Callable[[bool], None]) -> None:
        """Do tasks, and those that they need. `tick` is called meanwhile, with whether work is under way that counts no
        bytes. Raise what a task raises first; the others may still run then, until `close`."""
        with self._changed:
            for task in tasks:
                self._tasks.add(task, *task.needs)
            self._tasks.prepare()
            self._push_ready()
        self._threads = [self._executor.submit(self._work, connection) for connection in self._connections]
        try:
            while not self._is_over():
                tick(self._silent > 0)
            if self._error is not None:
                raise self._error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Begin no more tasks."""
        with self._changed:
            self.is_stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        """Begin no more tasks, cancel what is under way on the server, and wait for its end."""
        self.stop()
        while wait(self._threads, timeout=0).not_done:
            # Again and again: one cancel is lost on a thread that is between two statements or waits for another thread.
            for connection in self._connections:
                with contextlib.suppress(psycopg.Error):
                    connection.cancel_safe(timeout=CANCEL_SECONDS)
            wait(self._threads, timeout=CANCEL_AGAIN_SECONDS)
        self._executor.shutdown()

    def _is_over(self) -> bool:
        with self._changed:
            self._changed.wait(WAIT_SECONDS)
        return self._error is not None or all(thread.done() for thread in self._threads)

    def _push_ready(self) -> None:
        for task in self._tasks.get_ready():
            heapq.heappush(self._ready, (-task.weight, next(self._order), task))

    def _next(self) -> Task | None:
        with self._changed:
            while not self._ready and self._tasks.is_active() and not self.is_stopped:
                self._changed.wait()
            if not self._ready or self.is_stopped:
                return None
            task = heapq.heappop(self._ready)[2]
            self._silent += not task.moves_bytes
            return task

    def _work(self, connection: Connection) -> None:
        while (task := self._next()) is not None:
            try:
                task.do(connection)
            except BaseException as error:
                self._error = self._error or error
                self.stop()
                raise
            with self._changed:
                self._silent -= not task.moves_bytes
                self._tasks.done(task)
                self._push_ready()
                self._changed.notify_all()
