"""Open folders instead of paths: a path can be replaced by a link between two calls, and has at most 4,096 bytes.

Whoever may write to a folder above can replace any folder below it with a link. Therefore everything below the root is
opened relative to its parent's descriptor and without following links, and the root only once. The depth of a tree is
unlimited, so no function here or elsewhere may recurse per level, nor keep a descriptor or a path for each.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
OPEN_LEVELS = 64
"""How many of the deepest folders stay open on the way down."""
CHECKPOINT = 128
"""One folder stays open per this many levels; closed ones are reopened from it on the way back."""

LEVELS_NAMED = 50
"""How many of a path's last names a message shows."""


class Folder:
    """An open folder, closed when its last user is gone."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        return type(None), ()  # an entry sent to another process arrives without its open folders


def open_root(path: Path) -> Folder:
    """Open the folder at `path`, which may be a link. Raise OSError."""
    return Folder(os.open(path, FOLDER_FLAGS & ~os.O_NOFOLLOW))


class FolderChain:
    """The folders from a root down to a current one. Every method raises OSError as the system calls do.

    Of a deep chain only the last ones and every 128th stay open: 320 descriptors for 16,000 levels.
    """

    def __init__(self, root: Folder) -> None:
        self._folders: list[Folder | None] = [root]
        self.names: list[str] = []

    @property
    def depth(self) -> int:
        """The number of levels from the root to the current folder."""
        return len(self.names)

    def enter(self, name: str, folder: Folder | None = None) -> Folder:
        """Enter a folder of the current one; `folder` if it is already open."""
        folder = folder or Folder(os.open(name, FOLDER_FLAGS, dir_fd=self.current().fd))
        self._folders.append(folder)
        self.names.append(name)
        behind = len(self._folders) - 1 - OPEN_LEVELS
        if behind > 0 and behind % CHECKPOINT:
            self._folders[behind] = None
        return folder

    def leave(self) -> None:
        """Go back to the folder above."""
        self._folders.pop()
        self.names.pop()

    def current(self) -> Folder:
        """Return the current folder, reopened if it was closed."""
        folder = self._folders[-1]
        if folder is not None:
            return folder
        level = len(self._folders) - 1
        while self._folders[level] is None:
            level -= 1
        while level < len(self._folders) - 1:
            above = self._folders[level]
            assert above is not None
            level += 1
            self._folders[level] = Folder(os.open(self.names[level - 1], FOLDER_FLAGS, dir_fd=above.fd))
        folder = self._folders[-1]
        assert folder is not None
        return folder


class FolderCursor:
    """Open folders below a root by their paths. Neighbours in a tree are one step apart; not thread-safe."""

    def __init__(self, root: Folder) -> None:
        self._chain = FolderChain(root)
        self._path = ""

    def to(self, path: str, make: bool = False) -> Folder:
        """Return the folder at `path`, "" for the root; `make`: create missing folders, with mode 0700.

        Raise OSError, ENOTDIR or ELOOP if a part of the path is a link.
        """
        if path == self._path:
            return self._chain.current()
        names = path.split("/") if path else []
        keep = self._shared_levels(path, names)
        while self._chain.depth > keep:
            self._chain.leave()
        self._path = "/".join(names[:keep])
        for name in names[keep:]:
            try:
                self._chain.enter(name)
            except FileNotFoundError:
                if not make:
                    raise
                with contextlib.suppress(FileExistsError):  # another thread was quicker
                    os.mkdir(name, 0o700, dir_fd=self._chain.current().fd)
                self._chain.enter(name)
            self._path = f"{self._path}/{name}" if self._path else name
        return self._chain.current()

    def _shared_levels(self, path: str, names: list[str]) -> int:
        """Return how many levels `path` shares with the current folder's path."""
        depth = self._chain.depth
        if not depth or path.startswith(f"{self._path}/"):
            return depth
        if not path or self._path.startswith(f"{path}/"):
            return len(names)
        shared = 0
        for here, there in zip(self._chain.names, names, strict=False):
            if here != there:
                break
            shared += 1
        return shared


def all_below(root: Folder) -> Iterator[tuple[Folder, str, str, os.stat_result | None]]:
    """Yield (folder, name, path, lstat's result) for everything below a root; the result is None if lstat fails.

    Folders that can't be opened are yielded, and skipped.
    """
    chain = FolderChain(root)
    todo = [iter(os.listdir(root.fd))]
    while todo:
        name = next(todo[-1], None)
        if name is None:
            todo.pop()
            if todo:
                chain.leave()
            continue
        path = "/".join([*chain.names[-LEVELS_NAMED:], name])
        try:
            folder = chain.current()
        except OSError:  # it was moved away in the meantime
            todo[-1] = iter(())
            continue
        info: os.stat_result | None = None
        with contextlib.suppress(OSError):
            info = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
        yield folder, name, path, info
        if info is not None and stat.S_ISDIR(info.st_mode):
            with contextlib.suppress(OSError):
                below = Folder(os.open(name, FOLDER_FLAGS, dir_fd=folder.fd))
                names = iter(os.listdir(below.fd))
                chain.enter(name, below)
                todo.append(names)
