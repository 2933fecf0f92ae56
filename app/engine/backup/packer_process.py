"""What a helper process does: read and pack the batches that it is sent, into memory that it shares with the sender."""

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
"""A file that has grown beyond so many bytes since the walk saw it is left to the sender."""
FILES_AHEAD = 32
"""So many files are open before they are read: enough for a disk to choose from, far from any limit of open files."""


@dataclass(frozen=True)
class Task:
    """A batch of entries, and where its member may lie: offset and length in bytes."""

    offset: int
    room: int
    entries: list[Document]


@dataclass(frozen=True)
class Answer:
    """A packed batch and its member's length in bytes; no batch if there was too little room for it."""

    batch: Batch | None
    length: int = 0


class FilesAhead:
    """Reads the files among the given entries, in their order; the next ones are open by then, and the disk is at them."""

    def __init__(self, entries: Sequence[Document], folders: FolderCursor) -> None:
        self._folders = folders
        self._coming = (entry for entry in entries if entry.kind == "file")
        self._opened: deque[Opened | None] = deque()

    def read(self, document: Document) -> ReadDocument:
        """Given the next file, return it as read. Raise OSError and GrownTooLarge as `read_small` does."""
        for coming in itertools.islice(self._coming, FILES_AHEAD - len(self._opened)):
            self._opened.append(self._open_ahead(coming))
        return documents.read_small(document, self._open, LONGEST_READ, self._opened.popleft())

    def _open(self, document: Document) -> Opened:
        return documents.open_file(document, self._folders.to(document.path.rpartition("/")[0]))

    def _open_ahead(self, document: Document) -> Opened | None:
        try:
            opened = self._open(document)
        except OSError:  # the reading will tell
            return None
        with contextlib.suppress(OSError):
            os.posix_fadvise(opened[0], 0, 0, os.POSIX_FADV_WILLNEED)
        return opened

    def close(self) -> None:
        for opened in self._opened:
            if opened is not None:
                os.close(opened[0])


def serve(connections: Sequence[int], root: int, memory_fd: int) -> None:
    """Given a socket for each helper, the open documents folder and the shared memory, be one helper and start the others.
    Return when the sender has gone."""
    parent = os.getpid()
    mine = connections[0]
    # Nothing but this module's imports has run yet: there is no thread whose locks a fork could copy.
    for descriptor in connections[1:]:
        if os.fork() == 0:
            die_with_parent(parent)
            mine = descriptor
            break
    for descriptor in connections:
        if descriptor != mine:
            os.close(descriptor)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sender to act on
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
