"""Helper processes that pack the small documents, since threads would contend for Python's interpreter lock.

A helper reads the files, deflates and hashes them, and puts the finished member into a slot of memory that it shares with
this process, which only has to write it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import queue
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import UUID

from ..errors import DumpError, EngineError
from ..source.documents import Document
from ..system.processes import Child, engine_process, receive, running, send
from .documents_packing import Batch
from .packer_process import Answer, Task

WORTH_HELPERS = 32 * 1024 * 1024
"""Below this many bytes of documents, the helpers would take longer to start than they save."""
SLOT_BYTES = 8 * 1024 * 1024
LOST = "A helper process that packs the documents was lost (killed, or out of memory); start the backup again."


@dataclass(frozen=True)
class InSlot:
    """A packed batch. A member packed by a helper stays in its slot until the slot is released."""

    batch: Batch
    member: memoryview | None = None
    give_back: Callable[[], None] = lambda: None


class Packers:
    """Running helpers; `pack` may be called from any number of threads at once."""

    def __init__(self, child: Child, connections: Sequence[Connection], memory: mmap.mmap, slots: int) -> None:
        self._child = child
        self._memory = memoryview(memory)
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for connection in connections:
            self._idle.put(connection)
        for slot in range(slots):
            self._slots.put(slot)

    def pack(self, batch: list[Document]) -> InSlot | None:
        """Pack entries; None if they do not fit into a slot. Raise EngineError for a lost helper."""
        connection, slot = self._idle.get(), self._slots.get()
        try:
            send(connection, Task(slot * SLOT_BYTES, SLOT_BYTES, batch))
            answer: Answer = receive(connection)
        except (OSError, EOFError) as error:
            said = self._child.messages().rpartition("\n")[2]
            raise EngineError(LOST + (f" It said: {said}" if said else "")) from error
        finally:
            self._idle.put(connection)
        if answer.batch is None:
            self._slots.put(slot)
            return None
        start = slot * SLOT_BYTES
        return InSlot(answer.batch, self._memory[start : start + answer.length], lambda: self._slots.put(slot))


@contextlib.contextmanager
def packers(root: Path, size: int, count: int, slots: int, run_id: UUID) -> Iterator[Packers | None]:
    """Yield `count` helpers with `slots` slots, or None if they would not pay off or this system does not support them.

    Must be entered by a thread that outlives them. They end with the block.
    """
    possible = hasattr(os, "memfd_create") and sys.getfilesystemencoding() == "utf-8" and sys.executable
    if not possible or count < 2 or size < WORTH_HELPERS:
        yield None
        return
    with contextlib.ExitStack() as running_helpers:
        try:
            with contextlib.ExitStack() as theirs:
                folder = _open(theirs, os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                memory_fd = _open(theirs, os.memfd_create("packed documents", os.MFD_CLOEXEC))
                os.ftruncate(memory_fd, slots * SLOT_BYTES)
                memory = mmap.mmap(memory_fd, slots * SLOT_BYTES)
                pairs = [socket.socketpair() for _ in range(count)]
                connections = [Connection(mine.detach()) for mine, _ in pairs]
                sockets = [_open(theirs, its.detach()) for _, its in pairs]
                call = f"serve({sockets}, {folder}, {memory_fd})"
                command, environment = engine_process("backup.packer_process", call)
                start = running(command, environment, run_id, [folder, memory_fd, *sockets])
                child = running_helpers.enter_context(start)
        except (OSError, DumpError):
            yield None
            return
        # Our ends of the sockets stay open until the last thread that waits on one has released it.
        yield Packers(child, connections, memory, slots)


def _open(stack: contextlib.ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor
