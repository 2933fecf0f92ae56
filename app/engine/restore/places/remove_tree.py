"""Removes a folder of ours with all that is in it, however deep it is and whatever is done to it meanwhile.

The threats: the folder beside which it lies may belong to another user, who replaces it, or a folder in it, by a link or
another folder while root removes it; a tree may be deeper than Python's stack; a filesystem may be mounted in it, whose
content is not ours; and one file that can't be removed must not keep all others, and what depends on their removal, waiting
for ever.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

from ...source.documents import APPEND_ONLY, GET_FLAGS, IMMUTABLE, SET_FLAGS, named
from ...system.folders import FOLDER_FLAGS, Folder, FolderChain, open_root

MOST_REPORTED = 20
SHOWN_LEVELS = 16
_PATH_ONLY = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_STAYS = (errno.EPERM, errno.EACCES, errno.EBUSY)
_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)
_GONE = (errno.ENOENT, errno.ESTALE)


def remove_tree(path: Path, identity: tuple[int, int] | None = None) -> list[str]:
    """Remove the folder at `path`, if it is there and is the one with this (device, inode), and all that is in it.

    Return what had to stay, with the reason; after that, trying again would not help. Raise OSError where the disk failed.
    """
    try:
        parent = open_root(path.parent)
        info = os.stat(path.name, dir_fd=parent.fd, follow_symlinks=False)
    except FileNotFoundError:
        return []
    if not stat.S_ISDIR(info.st_mode) or (identity is not None and identity != (info.st_dev, info.st_ino)):
        return [f"{path}: it is not the folder that was made here, so it was not touched"]
    return _Removal(parent, path).run()


class _Removal:
    def __init__(self, parent: Folder, path: Path) -> None:
        self._parent = parent
        self._path = path
        self._left: list[str] = []
        self._left_out = 0

    def run(self) -> list[str]:
        name = self._path.name
        top = self._opened(self._parent, name, "../")
        if top is not None:
            self._empty(top)
            self._try(self._parent, name, "../", _rmdir)
            with contextlib.suppress(FileNotFoundError):
                os.stat(name, dir_fd=self._parent.fd, follow_symlinks=False)
                if not self._left:
                    raise OSError(errno.ENOTEMPTY, "something was put into it meanwhile", str(self._path))
        return self._left + ([f"… and {self._left_out} more"] if self._left_out else [])

    def _empty(self, top: Folder) -> None:
        """Remove all that is in the folder."""
        mount = _mount_of(top)
        chain = FolderChain(top)
        todo = [self._remove_files(top, "")]
        """The folders that are still to be removed, for each level."""
        while True:
            above = _place(chain)
            if todo[-1]:
                name = todo[-1].pop()
                folder = self._opened(chain.current(), name, above)
                if folder is None:
                    continue
                if _mount_of(folder) != mount:
                    self._stays(above, name, "another filesystem is mounted there")
                    continue
                chain.enter(name, folder)
                todo.append(self._remove_files(folder, _place(chain)))
                del folder  # to remove a folder while it is open costs ten times as much
                continue
            todo.pop()
            if not todo:
                return
            name = chain.names[-1]
            chain.leave()
            self._try(chain.current(), name, _place(chain), _rmdir)

    def _remove_files(self, folder: Folder, place: str) -> list[str]:
        """Remove the folder's files and links, and return its folders."""
        with os.scandir(folder.fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_folder in found:
            if not is_folder:
                self._try(folder, name, place, _unlink)
        return [name for name, is_folder in found if is_folder]

    def _opened(self, parent: Folder, name: str, place: str) -> Folder | None:
        """Return a folder, open and with the rights to empty it, or None if that can't be."""
        try:
            try:
                folder = Folder(os.open(name, FOLDER_FLAGS, dir_fd=parent.fd))
            except PermissionError:
                _give_rights(parent, name)
                folder = Folder(os.open(name, FOLDER_FLAGS, dir_fd=parent.fd))
            if os.fstat(folder.fd).st_mode & 0o700 != 0o700:
                with contextlib.suppress(PermissionError):
                    os.fchmod(folder.fd, 0o700)
        except OSError as error:
            if error.errno not in _GONE:
                self._stays(place, name, f"it can't be opened ({error.strerror})")
            return None
        return folder

    def _try(self, folder: Folder, name: str, place: str, remove: Callable[[str, int], None]) -> None:
        try:
            try:
                remove(name, folder.fd)
            except PermissionError:
                _make_mutable(folder.fd)
                _make_entry_mutable(folder, name)
                remove(name, folder.fd)
        except OSError as error:
            if error.errno in _STAYS:
                self._stays(place, name, f"it can't be removed ({error.strerror})")
            elif error.errno not in (*_GONE, *_NOT_EMPTY):  # what keeps a folder from being empty was said before
                raise

    def _stays(self, place: str, name: str, reason: str) -> None:
        if len(self._left) < MOST_REPORTED:
            self._left.append(f"{self._path}{named(f'/{place}{name}' if name else '')}: {reason}")
        else:
            self._left_out += 1


def _place(chain: FolderChain) -> str:
    """Return the current folder's path for a message, with a slash behind it."""
    if chain.depth > SHOWN_LEVELS:
        return f"…/{'/'.join(chain.names[-SHOWN_LEVELS:])}/"
    return "".join(f"{name}/" for name in chain.names)


def _rmdir(name: str, parent: int) -> None:
    os.rmdir(name, dir_fd=parent)


def _unlink(name: str, parent: int) -> None:
    os.unlink(name, dir_fd=parent)


def _give_rights(parent: Folder, name: str) -> None:
    """Give ourselves the rights to a folder that we may not even open; Linux has no fchmodat(2) that follows no link."""
    folder = Folder(os.open(name, _PATH_ONLY | os.O_DIRECTORY, dir_fd=parent.fd))
    os.chmod(f"/proc/self/fd/{folder.fd}", 0o700)


def _make_entry_mutable(folder: Folder, name: str) -> None:
    with contextlib.suppress(OSError):
        info = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
        if stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.fd)
            try:
                _make_mutable(fd)
            finally:
                os.close(fd)


def _make_mutable(fd: int) -> None:
    """Take the flags from a file or folder that forbid its removal, where we may."""
    flags = array.array("l", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, GET_FLAGS, flags)
        if flags[0] & (IMMUTABLE | APPEND_ONLY):
            flags[0] &= ~(IMMUTABLE | APPEND_ONLY)
            fcntl.ioctl(fd, SET_FLAGS, flags)


def _mount_of(folder: Folder) -> str:
    """Return which mount a folder lies in: a bind mount of the same filesystem has the same device number."""
    with contextlib.suppress(OSError), open(f"/proc/self/fdinfo/{folder.fd}", "rb", buffering=0) as file:
        for line in file.read(4096).decode().splitlines():
            if line.startswith("mnt_id:"):
                return line
    return str(os.fstat(folder.fd).st_dev)
