"""The helper process: read and pack the batches that it receives, into memory shared with the sender."""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from ..source import documents
from ..source.documents import Document, Opened, ReadDocument
from ..system.folders import Folder, FolderCursor
from ..system.processes import die_with_parent, receive, send
from .documents_packing import Batch, pack

LONGEST_READ = 6 * 1024 * 1024
"""A file that has grown beyond this many bytes since the walk is left to the sender."""
FILES_AHEAD = 32
"""How many files are opened ahead of being read: enough for a disk to choose from, far below any limit of open files."""


@dataclass(frozen=True)
class Task:
    """A batch of entries, and the slot for its member: offset and length in bytes."""

    offset: int
    room: int
    entries: list[Document]


@dataclass(frozen=True)
class Answer:
    """A packed batch and its member's length in bytes; no batch if it did not fit into the slot."""

    batch: Batch | None
    length: int = 0


class FilesAhead:
    """Read the files among the given entries in order, opening the next ones ahead so that the disk prefetches them."""

    def __init__(self, entries: Sequence[Document], folders: FolderCursor) -> None:
        self._folders = folders
        self._coming = (entry for entry in entries if entry.kind == "file")
        self._opened: deque[Opened | None] = deque()

    def read(self, document: Document) -> ReadDocument:
        """Read the next file. Raise OSError and GrownTooLarge as `read_small` does."""
        for coming in itertools.islice(self._coming, FILES_AHEAD - len(self._opened)):
            self._opened.append(self._open_ahead(coming))
        return documents.read_small(document, self._open, LONGEST_READ, self._opened.popleft())

    def _open(self, document: Document) -> Opened:
        return documents.open_file(document, self._folders.to(document.path.rpartition("/")[0]))

    def _open_ahead(self, document: Document) -> Opened | None:
        try:
            opened = self._open(document)
        except OSError:  # reading it will raise the error
            return None
        with contextlib.suppress(OSError):
            os.posix_fadvise(opened[0], 0, 0, os.POSIX_FADV_WILLNEED)
        return opened

    def close(self) -> None:
        for opened in self._opened:
            if opened is not None:
                os.close(opened[0])


def serve(connections: Sequence[int], root: int, memory_fd: int) -> None:
    """Run one helper and fork the others, one per socket. Return when the sender is gone."""
    parent = os.getpid()
    mine = connections[0]
    # Only this module's imports have run so far, so there is no thread whose locks a fork could copy.
    for descriptor in connections[1:]:
        if os.fork() == 0:
            die_with_parent(parent)
            mine = descriptor
            break
    for descriptor in connections:
        if descriptor != mine:
            os.close(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sender handles Ctrl-C
    with mmap.mmap(memory_fd, 0) as memory, memoryview(memory) as room, Connection(mine) as connection:
        folders = FolderCursor(Folder(root))
        while True:
            try:
                task: Task = receive(connection)
            except EOFError:
                return
            send(connection, _do(task, folders, room))


def _do(task: Task, folders: FolderCursor, room: memoryview) -> Answer:
    with contextlib.closing(FilesAhead(task.entries, folders)) as ahead:
        try:
            parts, batch = pack(task.entries, ahead.read)
        except documents.GrownTooLarge:
            return Answer(None)
    length = sum(map(len, parts))
    if length > task.room:
        return Answer(None)
    position = task.offset
    for part in parts:
        room[position : position + len(part)] = part
        position += len(part)
    return Answer(batch, length)
