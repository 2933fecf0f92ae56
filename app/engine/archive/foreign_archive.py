"""Walking through an archive that is not ours, or not provably ours: one pass, in its own order, within limits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from isal import isal_zlib

from ..errors import RestoreError
from ..files.documents import Document, shown
from ..restoring.staging_documents import check_path, check_target
from .archive_end import MANIFEST_NAME
from .archive_reader import GZIP, IsalError
from .gzip_members import FOOTER_SIZE, parse_footer
from .tar_stream import Entry, TarStream

READ_BYTES = 1024 * 1024
_OURS = {MANIFEST_NAME, "documents.index.jsonl"}


@dataclass(frozen=True)
class Limits:
    """How much an untrusted archive may ask for: entries, unpacked bytes, and bytes unpacked for each byte packed."""

    entries: int = 500_000
    unpacked_bytes: int = 1 << 50
    ratio: int = 200
    ratio_from_bytes: int = 64 * 1024 * 1024


class GzipStream:
    """Given a source of packed bytes, reads the unpacked ones, members one after the other, within the limits."""

    def __init__(self, source: Iterator[bytes], limits: Limits, what: str) -> None:
        self._source = source
        self._limits = limits
        self._what = what
        self._unpacker = isal_zlib.decompressobj(GZIP)
        self._input = b""
        self._rest = b""
        self.packed = 0
        self.unpacked = 0
        self.member_at = 0
        """Where in the unpacked stream the member began that the last part came from."""

    def parts(self) -> Iterator[bytes]:
        """Yield the content in parts of at most 1 MiB. Raise RestoreError if it is damaged, cut short or beyond a limit."""
        fresh = True
        while True:
            if not self._input:
                self._input = next(self._source, b"")
                self.packed += len(self._input)
                if not self._input:
                    if not fresh:
                        raise RestoreError(f"{self._what} was cut short.")
                    return
            if fresh and not self._input.strip(b"\0"):
                self._input = b""
                continue
            try:
                content = self._unpacker.decompress(self._input, READ_BYTES)
            except IsalError as error:
                raise RestoreError(f"{self._what} is no gzip file or is damaged ({error}).") from error
            if fresh:
                self.member_at = self.unpacked
            fresh = False
            self._input = self._unpacker.unconsumed_tail
            if self._unpacker.eof:
                self._input = self._unpacker.unused_data
                self._unpacker, fresh = isal_zlib.decompressobj(GZIP), True
            if content:
                self._count(len(content))
                yield content

    def _count(self, size: int) -> None:
        self.unpacked += size
        if self.unpacked > self._limits.unpacked_bytes:
            raise RestoreError(f"{self._what} unpacks to more than {self._limits.unpacked_bytes} bytes; it was refused.")
        if self.unpacked > self._limits.ratio_from_bytes and self.unpacked > self._limits.ratio * self.packed:
            raise RestoreError(
                f"{self._what} unpacks to more than {self._limits.ratio} times its size, as a decompression bomb does; "
                "it was refused."
            )


def exact_reader(parts: Iterator[bytes]) -> Callable[[int], bytes]:
    """Given parts, return a function that returns exactly n bytes of them, or fewer at the end."""
    rest = b""

    def read(count: int) -> bytes:
        nonlocal rest
        collected: list[bytes] = []
        while count:
            if not rest:
                rest = next(parts, b"")
                if not rest:
                    break
            piece, rest = rest[:count], rest[count:]
            collected.append(piece)
            count -= len(piece)
        return collected[0] if len(collected) == 1 else b"".join(collected)

    return read


class ForeignArchive:
    """Given an archive in the layout of a backup (`database/*.sql.gz`, `documents/…`), walks through it."""

    def __init__(self, path: Path, limits: Limits, count: Callable[[int], None]) -> None:
        self._path = path
        self._limits = limits
        self._count = count
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.entries = 0

    def walk(
        self,
        on_document: Callable[[Document, Iterator[bytes]], None],
        on_dump: Callable[[str, Iterator[bytes]], None],
    ) -> None:
        """Pass each document, and the dump's text, on in the archive's own order. Raise RestoreError at what is refused."""
        outer = GzipStream(self._packed(), self._limits, f"The archive {self._path.name}")
        parts = outer.parts()
        stream = TarStream(exact_reader(parts))
        seen: set[int] = set()
        dumps = 0
        for entry in stream.entries():
            self.entries += 1
            if self.entries > self._limits.entries:
                raise RestoreError(f"The archive has more than {self._limits.entries} entries; it was refused.")
            name = _plain_name(entry)
            identity = hash(name)
            if identity in seen:
                raise RestoreError(f"The archive holds {shown(name)[:200]!r} twice; it was refused.")
            seen.add(identity)
            # Ours ends with the manifest in a member of its own; `tar czf` makes one member of all.
            if name == MANIFEST_NAME and outer.member_at == stream.entry_at > 0 and not self._has_footer():
                raise RestoreError(
                    "The archive was made by this program, but its last bytes are missing or changed; copy or send it again "
                    "from where it was made."
                )
            top, _, below = name.partition("/")
            if top == "documents" and (below or entry.kind == "folder"):
                on_document(_as_document(entry, below), stream.content())
            elif top == "database" and below and entry.kind == "file" and below.endswith((".sql.gz", ".sql")):
                dumps += 1
                if dumps > 1:
                    raise RestoreError("The archive holds more than one dump in database/; which one is meant?")
                on_dump(below, self._dump_text(below, stream.content()))
            elif not (name in _OURS and entry.kind == "file") and not (name in ("", "database") and entry.kind == "folder"):
                raise RestoreError(
                    f"The archive holds {shown(name)[:200]!r}; a backup has only database/NAME.sql.gz and documents/."
                )
        # The gzip file's checksum stands at its very end.
        drain(parts)

    def _dump_text(self, name: str, content: Iterator[bytes]) -> Iterator[bytes]:
        if name.endswith(".sql"):
            return content
        return GzipStream(content, self._limits, f"database/{name}").parts()

    def _has_footer(self) -> bool:
        """Return whether the file ends with a footer of ours that fits its size."""
        size = os.fstat(self._fd).st_size
        found = parse_footer(os.pread(self._fd, FOOTER_SIZE, max(0, size - FOOTER_SIZE)))
        return found is not None and sum(found) + FOOTER_SIZE == size

    def _packed(self) -> Iterator[bytes]:
        while data := os.read(self._fd, READ_BYTES):
            self._count(len(data))
            yield data

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> ForeignArchive:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _plain_name(entry: Entry) -> str:
    name = entry.name.rstrip("/") if entry.kind == "folder" else entry.name
    while name.startswith("./"):
        name = name[2:]
    if name in (".", ""):
        return ""
    check_path(name)
    if entry.kind == "symlink":
        check_target(name.partition("/")[2] or name, entry.target)
    return name


def _as_document(entry: Entry, path: str) -> Document:
    return Document(path, entry.kind, entry.size, entry.mode, entry.mtime_ns, entry.uid, entry.gid, entry.target)


def drain(parts: Iterable[bytes]) -> int:
    """Read parts to their end and return their bytes."""
    return sum(len(part) for part in parts)
