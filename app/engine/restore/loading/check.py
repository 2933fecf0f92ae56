"""Checks, before any statement is executed, that an archive's dump and index are the ones its signature vouches for.

The signature covers the manifest, and the manifest names the SHA-256 of the dump and of the documents' index; the index
names that of each document, which is checked while it is staged. So no document is read twice, and nothing is believed
unread.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from ...archive.reader import ArchiveReader
from ...errors import ArchiveError, RestoreBlocked
from ...progress import Meter

READ_AHEAD = 3
"""So many pieces of the dump are read while one is hashed."""


def begin_check(reader: ArchiveReader, meter: Meter, with_database: bool, with_documents: bool) -> None:
    """Read the index of an archive of ours and compare it with the manifest. `check_dump` comes later, while documents are
    unpacked. Raise RestoreBlocked if the index differs."""
    database, documents = reader.manifest.database, reader.manifest.documents
    meter.phase("check", (database.size_bytes if with_database else 0) + (documents.index_bytes if with_documents else 0))
    if not with_documents:
        return
    digest = hashlib.sha256()
    with _blocking():
        for line in reader.index_lines():
            digest.update(line + b"\n")
            meter.add(len(line) + 1)
        if digest.hexdigest() != documents.index_sha256:
            raise ArchiveError("The index of documents is not the one that the manifest was signed for; it is damaged.")


def check_dump(reader: ArchiveReader, meter: Meter) -> None:
    """Read the dump of an archive of ours and compare it with the manifest. Raise RestoreBlocked if it differs."""
    database = reader.manifest.database
    digest, size = hashlib.sha256(), 0
    with _blocking():
        for inner in _pieces(reader):
            digest.update(inner)
            size += len(inner)
            meter.add(len(inner))
        if (digest.hexdigest(), size) != (database.sha256, database.size_bytes):
            raise ArchiveError("The dump in the archive is not the one that its manifest was signed for; it is damaged.")


@contextlib.contextmanager
def _blocking() -> Iterator[None]:
    try:
        yield
    except ArchiveError as error:
        raise RestoreBlocked([str(error)]) from error


def _pieces(reader: ArchiveReader) -> Iterator[bytes]:
    """Yield the gzip members of the dump in order."""
    pending: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="check") as ahead:
        for segment in reader.manifest.database.segments:
            offset = segment.offset
            for length in segment.pieces:
                pending.append(ahead.submit(reader.member, offset, length))
                offset += length
                if len(pending) > READ_AHEAD:
                    yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
