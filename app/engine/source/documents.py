"""Read the documents folder: walk it without following links, open files without races, detect changes during reading."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

from ..errors import SourceError, Subject
from ..system.folders import FOLDER_FLAGS, Folder, FolderChain, open_root
from ..system.links import LinksOnDisk

_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# linux/fs.h, ioctl_iflags(2): the flags of chattr(1) that forbid changing or removing a file, or anything in a folder.
GET_FLAGS, SET_FLAGS = 0x80086601, 0x40086602
IMMUTABLE, APPEND_ONLY = 0x10, 0x20
_SYSTEM_LABELS = frozenset(("security.selinux", "security.SMACK64", "security.ima", "security.evm", "security.apparmor"))
LONGEST_PATH = 32 * 1024
"""In bytes. Linux limits the path in one call, not how deep folders lie in each other; this bounds a walk's memory and time,
and an archive's names: at most 16,384 levels. Anything deeper is left out with a warning."""
LONGEST_SHOWN = 1000
"""In characters: a longer path is shown with its middle cut out."""


LATEST_NS = (2**63 - 1) * 10**9
"""The latest file time that Linux supports, in nanoseconds since 1970; the earliest is as far before 1970. Not every file
system supports it: ext4 ends in 2446, XFS in 2486."""
Nanoseconds: TypeAlias = Annotated[int, LATEST_NS]


class Document(NamedTuple):
    """An entry below the documents folder. `path` is relative to it, "" is the folder itself.

    `kind` is file, folder or symlink; sizes are bytes, `mtime_ns` nanoseconds since the epoch. Names that are not UTF-8
    carry their bytes as surrogate escapes (PEP 383).
    """

    path: str
    kind: str
    size: int
    mode: int
    mtime_ns: Nanoseconds
    uid: int
    gid: int
    target: str = ""
    folder: Folder | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Skipped:
    """An entry that is not in the archive, with the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class Incomplete(Skipped):
    """A folder that is in the archive, but not with everything it has; see `has_more`."""


@dataclass(frozen=True)
class FolderSize:
    """The result of a walk: the number of entries and the bytes of the regular files."""

    entries: int
    bytes: int


def shown(path: str) -> str:
    """Return a path for a message: on one line and without control characters, whatever its bytes."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def named(path: str) -> str:
    """Return a path for a message, like `shown`, with the middle of a very long one cut out."""
    text = shown(path)
    half = LONGEST_SHOWN // 2
    return text if len(text) <= LONGEST_SHOWN else f"{text[:half]}…{text[-half:]}"


def has_more(fd: int) -> bool:
    """Return whether an open file or folder has what an archive does not keep: extended attributes, ACLs, capabilities, or
    the flags of chattr(1) that forbid changes. Labels that the system itself gives do not count."""
    try:
        names = os.listxattr(fd)
    except OSError:  # not supported by this file system
        names = []
    if names and not _SYSTEM_LABELS.issuperset(names):
        return True
    try:
        return bool(fcntl.ioctl(fd, GET_FLAGS, bytes(8))[0] & (IMMUTABLE | APPEND_ONLY))
    except OSError:
        return False


def measure(root: Path, tick: Callable[[], None]) -> FolderSize:
    """Measure the documents folder, calling `tick` in between. Raise SourceError."""
    entries = size = 0
    for found in walk(root):
        tick()
        if isinstance(found, Document):
            entries += 1
            size += found.size if found.kind == "file" else 0
    return FolderSize(entries, size)


def walk(root: Path) -> Iterator[Document | Skipped]:
    """Yield everything below the documents folder, sorted by name, each folder before its content.

    Only one folder's names are in memory at a time. Raise SourceError if the folder itself can't be opened.
    """
    try:
        folder = open_root(root)
    except OSError as error:
        raise SourceError(Subject.DOCUMENTS, f"the documents folder {root} can't be read: {error.strerror}") from error
    yield _document("", os.fstat(folder.fd), "folder", None)
    if has_more(folder.fd):
        yield Incomplete("", "")
    yield from _walk_folder(folder)


def _document(path: str, info: os.stat_result, kind: str, folder: Folder | None, target: str = "") -> Document:
    size = info.st_size if kind == "file" else 0
    mode = stat.S_IMODE(info.st_mode)
    return Document(path, kind, size, mode, info.st_mtime_ns, info.st_uid, info.st_gid, target, folder)


def _names(folder: Folder) -> Iterator[str]:
    return iter(sorted(os.listdir(folder.fd), key=os.fsencode))


def _walk_folder(root: Folder) -> Iterator[Document | Skipped]:
    chain, links = FolderChain(root), LinksOnDisk(root)
    levels = [_names(root)]
    prefix = ""
    while levels:
        name = next(levels[-1], None)
        if name is None:
            levels.pop()
            if levels:
                prefix = prefix[: -len(chain.names[-1]) - 1]
                chain.leave()
            continue
        path = prefix + name
        try:
            folder = chain.current()
            info = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
            if len(path) > LONGEST_PATH // 4 and len(os.fsencode(path)) > LONGEST_PATH:
                yield Skipped(path, f"its path has more than {LONGEST_PATH} bytes")
            elif stat.S_ISREG(info.st_mode):
                yield _document(path, info, "file", folder)
            elif stat.S_ISDIR(info.st_mode):
                below = Folder(os.open(name, FOLDER_FLAGS, dir_fd=folder.fd))
                names = _names(below)
                yield _document(path, info, "folder", None)
                if has_more(below.fd):
                    yield Incomplete(path, "")
                chain.enter(name, below)
                levels.append(names)
                prefix = f"{path}/"
            elif stat.S_ISLNK(info.st_mode):
                target = os.readlink(name, dir_fd=folder.fd)
                if links.leads_out(path, target, folder):
                    yield Skipped(path, "a link that leads out of the documents folder is not followed")
                else:
                    yield _document(path, info, "symlink", None, target)
            else:
                yield Skipped(path, "neither a file, a folder nor a link")
        except OSError as error:
            yield Skipped(path, reason_of(error))


def reason_of(error: OSError) -> str:
    """Describe the error of an entry that could not be read."""
    if error.errno in (errno.ENOENT, errno.ESTALE):
        return "it vanished before it was read"
    if error.errno in (errno.ELOOP, errno.ENOTDIR):  # the errors of O_NOFOLLOW for a file, and for a folder
        return "it became a link before it was read"
    return f"it could not be read ({error.strerror})"


Opened: TypeAlias = tuple[int, os.stat_result]
"""A file's descriptor, and its state when it was opened."""


def open_file(document: Document, folder: Folder | None = None) -> Opened:
    """Open a file entry, in the given folder if it has none of its own, and return its descriptor and state.

    Raise OSError, also if it is no longer a file.
    """
    folder = folder or document.folder
    assert folder is not None
    fd = os.open(document.name, _FILE_FLAGS, dir_fd=folder.fd)
    state = os.fstat(fd)
    if not stat.S_ISREG(state.st_mode):
        os.close(fd)
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    return fd, state


def has_changed(before: os.stat_result, fd: int, read: int) -> bool:
    """Return whether a file changed while it was read, from its state before and the bytes read."""
    after = os.fstat(fd)
    return (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or read != before.st_size


class ReadDocument(NamedTuple):
    """A small file as it was read."""

    document: Document
    data: bytes
    sha256: str
    changed: bool
    has_more: bool


class GrownTooLarge(Exception):
    """A small file is no longer small."""


def read_small(
    document: Document,
    open_it: Callable[[Document], Opened] | None = None,
    longest: int | None = None,
    opened: Opened | None = None,
) -> ReadDocument:
    """Read a small file entry, once more if it changed meanwhile. `opened`, if it is already open, is closed. Raise OSError,
    or GrownTooLarge if it now has more than `longest` bytes."""
    for attempt in (1, 2):
        fd, before = opened or (open_it or open_file)(document)
        opened = None
        try:
            if longest is not None and before.st_size > longest:
                raise GrownTooLarge
            data = _read_up_to(fd, before.st_size)
            changed = has_changed(before, fd, len(data))
            more = has_more(fd)
        finally:
            os.close(fd)
        if not changed or attempt == 2:
            break
    as_read = _document(document.path, before, "file", None)
    if as_read.size != len(data):
        as_read = as_read._replace(size=len(data))
    return ReadDocument(as_read, data, hashlib.sha256(data).hexdigest(), changed, more)


def _read_up_to(fd: int, size: int) -> bytes:
    data = os.read(fd, size)
    if len(data) == size or not data:
        return data
    parts = [data]
    while data and sum(map(len, parts)) < size:
        data = os.read(fd, size - sum(map(len, parts)))
        parts.append(data)
    return b"".join(parts)
