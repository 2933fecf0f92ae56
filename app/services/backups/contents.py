"""Browse an archive: its tables, its documents, and the download of single documents.

Everything is found through the archive's own manifest and index. A requested path is only compared with the paths in the
index, and never used as a path of the file system.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from app import current
from app.engine.archive.manifest import DocumentsPart, TableEntry
from app.engine.archive.reader import ArchiveReader, IndexLine, open_stored
from app.engine.errors import ArchiveError
from app.errors import Conflict, InvalidInput, NotFound
from app.runs import locks
from app.services.backups import archive_index, backups
from app.services.backups.archive_index import LONGEST_SEARCH, Entry
from app.services.installation.storage import storage
from app.services.paging import LARGEST_PAGE, Page

# A document up to this size is read twice, so that damage is reported before any of it is sent.
CHECKED_FIRST_BYTES = 64 * 1024 * 1024

NOT_INDEXED = (
    "This archive comes from elsewhere and has no index, so single documents can't be extracted. Download the whole"
    " archive and unpack it with `tar xzf`."
)
DAMAGED = "Verify this backup to see how much of it is damaged, and restore from another one."


class NotIndexed(Conflict):
    """The archive is a plain .tar.gz, whose contents are unknown until all of it is read."""


@dataclass(frozen=True)
class Contents:
    """The manifest's tables, and the numbers and bytes of documents, folders and symlinks."""

    backup: backups.BackupHistory
    tables: list[TableEntry]
    documents: DocumentsPart

    @property
    def rows(self) -> int:
        """The rows of all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def table_bytes(self) -> int:
        """The bytes of all tables as COPY text, unpacked."""
        return sum(table.bytes for table in self.tables)


@dataclass(frozen=True)
class Listing:
    """One page of a folder, or of the search results below it. `documents` and `size_bytes` are of the whole folder."""

    folder: str
    search: str
    page: Page[Entry]
    documents: int
    size_bytes: int


def look(backup_id: UUID) -> Contents:
    """Read a completed backup's manifest. Raise NotFound, NotIndexed, or Conflict if it is damaged."""
    with _opened(backup_id) as reader:
        manifest = reader.manifest
        return Contents(backups.get(backup_id), manifest.database.readable_tables, manifest.documents)


def documents(backup_id: UUID, folder: str = "", search: str = "", page: int = 1, page_size: int = 50) -> Listing:
    """Return a page of a folder below documents/ ("": documents/ itself), folders first. With a search, return the documents
    anywhere below the folder whose name contains it, ignoring case.

    Raise InvalidInput, NotFound, NotIndexed, or Conflict if the archive is damaged.
    """
    _check(search, page, page_size)
    with _opened(backup_id) as reader:
        found = archive_index.Found(folder, search.casefold(), page * page_size)
        for line in reader.index_lines():
            found.add(line)
        if folder and not found.is_there:
            raise NotFound("There is no such folder in this archive.", id=str(backup_id))
        items = found.window((page - 1) * page_size, page * page_size)
    return Listing(folder, search, Page(items, page, page_size, found.total), found.documents, found.bytes)


class OpenDocument:
    """A document being sent. Iterate once, then close; until then no cleanup deletes the archive."""

    def __init__(self, reader: ArchiveReader, line: IndexLine, lock: locks.Lock) -> None:
        self.path = line.entry.path
        self.size_bytes = line.entry.size
        self.sha256 = line.sha256
        self.modified_at = archive_index.time_of(line.entry.mtime_ns)
        self._reader = reader
        self._lock = lock
        self._content = archive_index.content(reader, line)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the content in parts of at most 1 MiB. Raise ArchiveError before the last part if it is damaged."""
        return self._content

    def close(self) -> None:
        self._content.close()
        self._reader.close()
        self._lock.release()


def open_document(backup_id: UUID, path: str) -> OpenDocument:
    """Open a document by its path as the index has it. The caller closes it.

    Raise NotFound, NotIndexed, or Conflict if the archive is damaged or being deleted.
    """
    lock = locks.acquire(locks.archive_name(backup_id), shared=True)
    if lock is None:
        raise Conflict("This archive is being deleted.", id=str(backup_id))
    reader = None
    try:
        archive = _archive(backup_id)
        with _advice(backup_id):
            reader = open_stored(storage(), archive.filename, _signing_key())
            line = archive_index.find(reader, path)
            if line is None:
                raise NotFound("There is no such document in this archive.", id=str(backup_id))
            if line.entry.size <= CHECKED_FIRST_BYTES:
                for _ in archive_index.content(reader, line):
                    pass
        return OpenDocument(reader, line, lock)
    except BaseException:
        if reader is not None:
            reader.close()
        lock.release()
        raise


@contextmanager
def _opened(backup_id: UUID) -> Iterator[ArchiveReader]:
    archive = _archive(backup_id)
    with _advice(backup_id), open_stored(storage(), archive.filename, _signing_key()) as reader:
        yield reader


def _signing_key() -> bytes:
    settings = current.settings()
    return settings.signing_key


def _archive(backup_id: UUID) -> backups.ArchiveFile:
    if backups.get(backup_id).origin == "foreign":
        raise NotIndexed(NOT_INDEXED, id=str(backup_id))
    # Each document has its own hash, so intact ones can still be taken from a damaged archive.
    return backups.archive_file(backup_id, damaged=True)


@contextmanager
def _advice(backup_id: UUID) -> Iterator[None]:
    """Return what is wrong with an archive that can't be read, and what to do."""
    settings = current.settings()
    try:
        yield
    except ArchiveError as error:
        raise Conflict(f"{settings.redact(str(error))} {DAMAGED}", id=str(backup_id)) from error


def _check(search: str, page: int, page_size: int) -> None:
    problems = {}
    if len(search) > LONGEST_SEARCH:
        problems["search"] = f"Use at most {LONGEST_SEARCH} characters."
    if page < 1:
        problems["page"] = "Pages count from 1."
    if not 1 <= page_size <= LARGEST_PAGE:
        problems["page_size"] = f"Choose from 1 to {LARGEST_PAGE}."
    if problems:
        raise InvalidInput(problems)
