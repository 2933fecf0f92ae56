"""Reads an archive that is not ours, or not provably ours: in one pass, in its own order, within limits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ..archive.budget import Budget
from ..archive.gunzip import JOINED_BYTES, Gunzip, IsalError, joined
from ..archive.gzip_members import FOOTER_SIZE, parse_footer
from ..archive.layout import DATABASE_FOLDER, INDEX_NAME, MANIFEST_NAME
from ..archive.tar_stream import Entry, TarStream
from ..errors import RestoreError
from ..source.documents import LONGEST_PATH, Document, shown
from ..storage.local import LocalBlob
from ..system.links import leads_out
from .places.staging_folder import check_path, link_refused

READ_BYTES = 1024 * 1024
_OUR_FILES = {MANIFEST_NAME, INDEX_NAME}
_OUR_FOLDERS = {"", DATABASE_FOLDER}


@dataclass(frozen=True)
class Limits:
    """How much an untrusted archive may ask for: entries (and folders that have none), gzip members, unpacked bytes, bytes
    unpacked for each byte packed, how much its links may keep us busy, and CPU seconds of the thread that reads it."""

    entries: int = 500_000
    members: int = 1_000_000
    unpacked_bytes: int = 1 << 50
    ratio: int = 200
    ratio_from_bytes: int = 64 * 1024 * 1024
    links_bytes: int = 64 * 1024 * 1024
    links_steps: int = 250_000
    cpu_seconds: float | None = None


class GzipStream:
    """Unpacks gzip members one after the other, within the limits."""

    def __init__(self, source: Iterator[bytes], limits: Limits, what: str, budget: Budget) -> None:
        self._limits = limits
        self._what = what
        self._budget = budget
        self._gunzip = Gunzip(self._checked(source), may_be_padded=True)
        self._members_at: deque[int] = deque([0], JOINED_BYTES * 2)

    def begins_member(self, position: int) -> bool:
        """Return whether a member begins at a position, in unpacked bytes, of what was read last."""
        return position in self._members_at

    def _checked(self, source: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in source:
            self._budget.check()
            yield chunk
            if self._gunzip.members > self._limits.members:
                raise RestoreError(
                    f"{self._what} consists of more than {self._limits.members} gzip members; it was refused."
                )

    def parts(self) -> Iterator[bytes]:
        """Yield the content, at most 1 MiB at once. Raise RestoreError if it is damaged, cut short or beyond a limit."""
        try:
            yield from joined(self._unpacked())
        except IsalError as error:
            raise RestoreError(f"{self._what} is not a gzip file, or is damaged ({error}).") from error
        if not self._gunzip.is_between_members:
            raise RestoreError(f"{self._what} was cut short.")

    def _unpacked(self) -> Iterator[bytes]:
        for part in self._gunzip.parts():
            self._check()
            if self._gunzip.member_at != self._members_at[-1]:
                self._members_at.append(self._gunzip.member_at)
            yield part

    def _check(self) -> None:
        self._budget.check()
        unpacked, packed = self._gunzip.unpacked, self._gunzip.packed
        if unpacked > self._limits.unpacked_bytes:
            raise RestoreError(f"{self._what} unpacks to more than {self._limits.unpacked_bytes} bytes; it was refused.")
        if unpacked > self._limits.ratio_from_bytes and unpacked > self._limits.ratio * packed:
            raise RestoreError(
                f"{self._what} unpacks to more than {self._limits.ratio} times its size, as a decompression bomb does; "
                "it was refused."
            )


def exact_reader(parts: Iterator[bytes]) -> Callable[[int], bytes]:
    """Return a function that reads exactly n bytes of the parts, or fewer at their end."""
    part, position = b"", 0

    def read(count: int) -> bytes:
        nonlocal part, position
        collected: list[bytes] = []
        while count:
            if position == len(part):
                part, position = next(parts, b""), 0
                if not part:
                    break
            piece = part[position : position + count]
            position += len(piece)
            count -= len(piece)
            collected.append(piece)
        return collected[0] if len(collected) == 1 else b"".join(collected)

    return read


class ForeignArchive:
    """Reads an archive in the layout of a backup (`database/*.sql.gz`, `documents/…`) from beginning to end."""

    def __init__(self, path: Path, limits: Limits, count: Callable[[int], None]) -> None:
        self._path = path
        self._limits = limits
        self._count = count
        self._blob = LocalBlob(path)
        self._budget = Budget(limits.cpu_seconds)

    def walk(
        self,
        on_document: Callable[[Document, Iterator[bytes]], None],
        on_dump: Callable[[str, Iterator[bytes]], None],
    ) -> None:
        """Pass each document, and the dump's text, on in the archive's own order. Raise RestoreError at what is refused."""
        outer = GzipStream(self._packed(), self._limits, f"The archive {self._path.name}", self._budget)
        parts = outer.parts()
        stream = TarStream(exact_reader(parts))
        names = _Names(self._limits)
        dumps = 0
        for entry in stream.entries():
            name = _plain_name(entry)
            names.add(name, entry.kind, entry.target)
            # Ours ends with the manifest in a member of its own; `tar czf` makes one member of all.
            if name == MANIFEST_NAME and stream.entry_at and outer.begins_member(stream.entry_at) and not self._has_footer():
                raise RestoreError(
                    "The archive was made by this program, but its last bytes are missing or changed; copy or send it again "
                    "from where it was made."
                )
            top, _, below = name.partition("/")
            if top == "documents" and (below or entry.kind == "folder"):
                on_document(_as_document(entry, below), stream.content())
            elif top == DATABASE_FOLDER and below and entry.kind == "file" and below.endswith((".sql.gz", ".sql")):
                dumps += 1
                if dumps > 1:
                    raise RestoreError("The archive holds more than one dump in database/; keep only one of them.")
                on_dump(below, self._dump_text(below, stream.content()))
            elif not (entry.kind == "file" and name in _OUR_FILES) and not (entry.kind == "folder" and name in _OUR_FOLDERS):
                raise RestoreError(
                    f"The archive holds {shown(name)[:200]!r}; a backup has only database/NAME.sql.gz and documents/."
                )
        # The gzip file's checksum stands at its very end.
        drain(parts)
        names.check_links()

    def _dump_text(self, name: str, content: Iterator[bytes]) -> Iterator[bytes]:
        if name.endswith(".sql"):
            return joined(content)
        return GzipStream(content, self._limits, f"database/{name}", self._budget).parts()

    def _has_footer(self) -> bool:
        """Return whether the file ends with a footer of ours that fits its size."""
        size = self._blob.size
        found = parse_footer(self._blob.read_at(max(0, size - FOOTER_SIZE), FOOTER_SIZE))
        return found is not None and sum(found) + FOOTER_SIZE == size

    def _packed(self) -> Iterator[bytes]:
        offset = 0
        while data := self._blob.read_at(offset, READ_BYTES):
            offset += len(data)
            self._count(len(data))
            yield data

    def close(self) -> None:
        self._blob.close()

    def __enter__(self) -> ForeignArchive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _Names:
    """The names in an archive, by their hashes: there may be very many, and each may be very long.

    Refuses what no folder can hold (a name twice, an entry below a file) and what leads elsewhere once links are made: an
    entry below a link, and links that lead out of the documents by themselves or through each other.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._entries = 0
        self._seen: set[int] = set()
        self._folders: set[int] = {hash("")}
        self._links: dict[str, str] = {}
        self._links_bytes = 0

    def add(self, name: str, kind: str, target: str) -> None:
        """Take an entry. Raise RestoreError at what is refused."""
        identity = hash(name)
        if identity in self._seen or (identity in self._folders and kind != "folder" and name):
            raise RestoreError(f"The archive holds {shown(name)[:200]!r} twice; it was refused.")
        self._count()
        self._seen.add(identity)
        self._add_folders(name.rpartition("/")[0], name)
        if kind == "folder":
            self._folders.add(identity)
        elif kind == "symlink":
            self._links[name.partition("/")[2]] = target
            self._links_bytes += len(name) + len(target)
            if self._links_bytes > self._limits.links_bytes:
                raise RestoreError("The archive holds more links than any folder of documents has; it was refused.")

    def _add_folders(self, path: str, name: str) -> None:
        """Take the folders above an entry, whether they have entries or not."""
        while (identity := hash(path)) not in self._folders:
            if identity in self._seen:
                raise RestoreError(
                    f"The archive holds {shown(name)[:200]!r} below a link or a file, where no backup has anything; it was "
                    "refused."
                )
            self._count()
            self._folders.add(identity)
            path = path.rpartition("/")[0]

    def _count(self) -> None:
        self._entries += 1
        if self._entries > self._limits.entries:
            raise RestoreError(f"The archive has more than {self._limits.entries} entries; it was refused.")

    def check_links(self) -> None:
        """Raise RestoreError for a link that leads out of the documents."""
        left = self._limits.links_steps + 16 * len(self._links)

        def target_of(path: str) -> str | None:
            nonlocal left
            left -= 1
            if left < 0:
                raise RestoreError("The archive's links lead through too many others; it was refused.")
            return self._links.get(path)

        for path, target in self._links.items():
            if leads_out(path, target, target_of):
                raise link_refused(path)


def _plain_name(entry: Entry) -> str:
    name = entry.name.rstrip("/") if entry.kind == "folder" else entry.name
    while name.startswith("./"):
        name = name[2:]
    if name in (".", ""):
        return ""
    check_path(name, LONGEST_PATH + len("documents/"))
    return name


def _as_document(entry: Entry, path: str) -> Document:
    return Document(path, entry.kind, entry.size, entry.mode, entry.mtime_ns, entry.uid, entry.gid, entry.target)


def drain(parts: Iterable[bytes]) -> int:
    """Read parts to their end and return their bytes."""
    return sum(len(part) for part in parts)
