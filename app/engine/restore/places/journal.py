"""What a restore has made and how far it is, in an fsynced file, so that the next process can finish or undo it.

A journal decides what is dropped, so it is read with distrust: from a folder of our own that nobody else may write to, never
through a link, and what it names is compared with what the restore's id and the target make of it (places.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from ...errors import RestoreError
from ...storage.local import sync_folder
from .contents import DatabaseContents, FolderContents

STAGING = "staging"
EXCHANGING = "exchanging"
KEPT = "kept"
VOID = "void"
MOST_BYTES = 64 * 1024**2
"""A journal of 300,000 tables has 10 MB during the swap; a larger file than this is not read."""

_SUFFIX = ".json"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class DatabasePair:
    """The live database's name, and the two databases that may bear it, known by their oids."""

    live_name: str
    other_name: str
    new_oid: int
    old_oid: int


@dataclass(frozen=True)
class FolderPair:
    """The live folder's path, the path of the other one beside it, and the two folders, known by (device, inode).

    Only the inodes are compared: a device may have another number after a reboot.
    """

    live: str
    other: str
    new_inode: tuple[int, int]
    old_inode: tuple[int, int]
    by_children: bool = False


@dataclass(frozen=True)
class Journal:
    """A restore's state on this server and disk.

    `step`: staging (nothing live was touched), exchanging (towards `wanted`, "new" or "old"), kept (`wanted` is live, the
    other one is kept for an undo), void (it was interrupted, and what it was about no longer exists). A database or
    folder that is not in the restore's scope is None. `abandoned`: the swap failed, so that nothing is to be kept.
    `transaction`: the one in the live database that decides, for a restore in place.
    `staging_oid` and `staging_inode` are noted before anything is put into what bears them. `database_contents` and
    `folder_contents`: what the new state held when it was complete, until it is live.
    """

    restore_id: UUID
    step: str
    wanted: str = "new"
    staging_database: str | None = None
    staging_folder: str | None = None
    sandbox: bool = False
    database: DatabasePair | None = None
    folder: FolderPair | None = None
    abandoned: bool = False
    transaction: str | None = None
    staging_oid: int | None = None
    staging_inode: tuple[int, int] | None = None
    database_contents: DatabaseContents | None = None
    folder_contents: FolderContents | None = None

    def path(self, state_dir: Path) -> Path:
        return state_dir / f"{self.restore_id}{_SUFFIX}"


@dataclass(frozen=True)
class Found:
    """The journals of a folder, oldest first, and a sentence for each one that can't be used, which is left alone.

    `present`: the restores that have a file there, usable or not; None if the folder can't be read.
    """

    journals: list[Journal]
    problems: list[str]
    present: frozenset[UUID] | None


def write(state_dir: Path, journal: Journal, **changes: Any) -> Journal:
    """Make changes to a journal durable, and return the new journal. Raise RestoreError."""
    journal = replace(journal, **changes)
    path = journal.path(state_dir)
    text = json.dumps({**asdict(journal), "restore_id": str(journal.restore_id)}, indent=1).encode()
    temporary = path.with_suffix(".tmp").name
    try:
        _make(state_dir)
        with _opened(state_dir) as folder:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(temporary, flags, 0o600, dir_fd=folder), "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            sync_folder(folder)
    except OSError as error:
        raise RestoreError(f"The restore's journal {path} can't be written: {error.strerror}.") from error
    return journal


def _make(state_dir: Path) -> None:
    if not os.path.lexists(state_dir):
        state_dir.mkdir(mode=0o700, parents=True)
        sync_folder(state_dir.parent)


@contextlib.contextmanager
def _opened(state_dir: Path) -> Iterator[int]:
    """Open the folder of journals. Raise RestoreError if it is not ours alone to write to, else OSError."""
    try:
        folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except NotADirectoryError as error:
        raise RestoreError(
            f"{state_dir}, where restores keep their journals, is not a directory. Find out what it is, then remove it."
        ) from error
    try:
        _check_ours(os.fstat(folder), state_dir)
        yield folder
    finally:
        os.close(folder)


def _check_ours(info: os.stat_result, path: Path) -> None:
    if info.st_uid != os.geteuid():
        raise RestoreError(
            f"{path} belongs to the user {info.st_uid}, but restores run as the user {os.geteuid()}, and a journal of "
            "another user is not believed. If it is one of this installation, change its owner (chown)."
        )
    if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise RestoreError(
            f"{path} can be written to by others, so what it says is not believed. If it is right, take the right to write "
            "from them (chmod go-w)."
        )


def read(path: Path) -> Journal:
    """Read a journal. Raise RestoreError if that fails or the file is not ours."""
    try:
        with _opened(path.parent) as folder:
            return _read(folder, path)
    except OSError as error:
        raise RestoreError(f"The restore's journal {path} can't be read: {error.strerror}.") from error


def _read(folder: int, path: Path) -> Journal:
    try:
        fd = os.open(path.name, _READ, dir_fd=folder)
        with open(fd, "rb") as file:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise ValueError("it is not a regular file")
            _check_ours(info, path)
            if info.st_size > MOST_BYTES:
                raise ValueError(f"it has {info.st_size} bytes")
            journal = _parsed(file.read(MOST_BYTES))
        if path.name != f"{journal.restore_id}{_SUFFIX}":
            raise ValueError(f"it is about the restore {journal.restore_id}")
        return journal
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RestoreError(
            f"The restore's journal {path} can't be read ({reason}). It was left alone; see the operator's guide."
        ) from error


def _parsed(raw: bytes) -> Journal:
    """Parse a journal. Raise ValueError, KeyError, TypeError, AttributeError or RecursionError for any other content."""
    values = json.loads(raw)
    database, folder, contents = values.pop("database"), values.pop("folder"), values.pop("database_contents", None)
    files, staging_inode = values.pop("folder_contents", None), values.pop("staging_inode", None)
    if folder is not None:
        new_inode, old_inode = _inode(folder.pop("new_inode")), _inode(folder.pop("old_inode"))
        folder = FolderPair(**folder, new_inode=new_inode, old_inode=old_inode)
    journal = Journal(
        **{**values, "restore_id": UUID(values["restore_id"])},
        database=DatabasePair(**database) if database is not None else None,
        folder=folder,
        staging_inode=_inode(staging_inode) if staging_inode is not None else None,
        database_contents=DatabaseContents(**contents) if contents is not None else None,
        folder_contents=FolderContents(**files) if files is not None else None,
    )
    oids = [journal.staging_oid, *((journal.database.new_oid, journal.database.old_oid) if journal.database else ())]
    texts = [journal.staging_database, journal.staging_folder, journal.transaction]
    is_sound = (
        journal.step in (STAGING, EXCHANGING, KEPT, VOID)
        and journal.wanted in ("new", "old")
        and all(oid is None or type(oid) is int for oid in oids)
        and all(text is None or isinstance(text, str) for text in texts)
        and type(journal.sandbox) is type(journal.abandoned) is bool
    )
    if not is_sound:
        raise ValueError("it says what no journal says")
    return journal


def _inode(value: Any) -> tuple[int, int]:
    device, number = value
    if not (type(device) is type(number) is int):
        raise ValueError("an inode is not a number")
    return device, number


def look(state_dir: Path) -> Found:
    """Read all journals in the folder. One that can't be read becomes a problem and does not hide the others."""
    journals: list[Journal] = []
    problems: list[str] = []
    present: frozenset[UUID] | None = None
    try:
        with _opened(state_dir) as folder:
            names = [name for name in os.listdir(folder) if name.endswith(_SUFFIX)]
            stems = [name.removesuffix(_SUFFIX) for name in names]
            present = frozenset(UUID(stem) for stem in stems if _is_id(stem))
            for name in sorted(names, key=lambda name: _changed(folder, name)):
                try:
                    journals.append(_read(folder, state_dir / name))
                except RestoreError as error:
                    problems.append(str(error))
    except FileNotFoundError:
        present = frozenset()
    except RestoreError as error:
        problems.append(str(error))
    except OSError as error:
        problems.append(f"The restores' journals in {state_dir} can't be read: {error.strerror}.")
    return Found(journals, problems, present)


def _changed(folder: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns
    except FileNotFoundError:
        return 0


def all_in(state_dir: Path) -> list[Journal]:
    """Return the readable journals in the folder, oldest first."""
    return look(state_dir).journals


def remove(state_dir: Path, journal: Journal) -> None:
    """Forget a journal: nothing of its restore is left but what is live."""
    path = journal.path(state_dir)
    with _opened(state_dir) as folder:
        for name in (path.with_suffix(".tmp").name, path.name):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
        sync_folder(folder)


def remove_torn(state_dir: Path, alive: frozenset[UUID]) -> None:
    """Remove what a crash in the middle of `write` has left, for all restores but those in `alive`."""
    with contextlib.suppress(RestoreError, OSError), _opened(state_dir) as folder:
        for name in os.listdir(folder):
            stem, _, suffix = name.rpartition(".")
            if suffix == "tmp" and _is_id(stem) and stem not in {str(restore_id) for restore_id in alive}:
                os.unlink(name, dir_fd=folder)


def _is_id(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
