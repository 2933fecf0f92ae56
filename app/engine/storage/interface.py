"""Where archives are kept, as the rest of the program sees it. `local.LocalStorage` is the one implementation so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True)
class Features:
    """What a storage can do beyond keeping files. A caller asks before it relies on one.

    `conditional_create`: of two writers who use the same name at once, one is refused. `resume`: an interrupted `create`
    goes on where it stopped. `locks`: a file can be protected against deletion until a date. `versions`: an overwritten or
    deleted file can be brought back. `free_space` and `local_path`: the methods of that name answer.
    """

    free_space: bool = False
    local_path: bool = False
    conditional_create: bool = False
    resume: bool = False
    locks: bool = False
    versions: bool = False


@dataclass(frozen=True)
class FileInfo:
    """A file in a storage, found by listing or by name. `is_regular` is false for a folder or link in its place."""

    name: str
    size: int
    mtime_ns: int
    is_regular: bool = True


class Blob(Protocol):
    """A file that is open for reading. Threads may share it."""

    @property
    def size(self) -> int:
        """In bytes, when it was opened."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Read up to `length` bytes: fewer at the end of the file and wherever the system returns fewer. Raise OSError."""
        ...

    def close(self) -> None: ...


def parts_of(blob: Blob, length: int) -> Iterator[bytes]:
    """Yield all of a file, in parts of at most `length` bytes. Raise OSError."""
    offset = 0
    while part := blob.read_at(offset, length):
        offset += len(part)
        yield part


class Storage(Protocol):
    """A flat set of named files, each written once. Every method raises OSError if the storage can't be reached."""

    @property
    def features(self) -> Features: ...

    def create(self, name: str, file: Path) -> None:
        """Store a finished file under a name, durably; the file itself may be moved. Raise FileExistsError if the name is
        taken: nothing is ever overwritten."""
        ...

    def open(self, name: str) -> Blob:
        """Raise FileNotFoundError if there is no such file."""
        ...

    def list(self, prefix: str = "") -> Iterator[FileInfo]:
        """Yield the files whose names begin with `prefix`, in any order; none where the storage does not exist yet."""
        ...

    def stat(self, name: str) -> FileInfo | None:
        """Look up one file without following links; None if there is none."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file for good: a power cut does not bring it back. Does nothing if there is none."""
        ...

    def free_space(self) -> int | None:
        """Return the bytes that can still be written, None where the storage has no such limit."""
        ...

    def local_path(self, name: str) -> Path | None:
        """Return where a program of this machine can read the file, None where it is elsewhere."""
        ...
