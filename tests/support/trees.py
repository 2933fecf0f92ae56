"""Trees that no path leads through: made, and compared, by open folders."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Tree = dict[bytes, tuple[object, ...]]
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def opened(folder: Path | str, *names: bytes | str) -> Iterator[int]:
    """Yield a descriptor of the folder that these names lead to, one by one."""
    fd = os.open(folder, FOLDER)
    try:
        for name in names:
            below = os.open(name, FOLDER, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def make_deep(folder: Path, levels: int, name: bytes | str = "d", each: bytes | None = None) -> int:
    """Make so many folders in each other and return a descriptor of the deepest; `each`: a file in every one of them."""
    fd = os.open(folder, FOLDER)
    for _ in range(levels):
        os.mkdir(name, 0o755, dir_fd=fd)
        below = os.open(name, FOLDER, dir_fd=fd)
        os.close(fd)
        fd = below
        if each is not None:
            write_at(fd, "z", each)
    return fd


def write_at(fd: int, name: bytes | str, content: bytes) -> None:
    """Write a file into an open folder."""
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=fd)
    try:
        os.write(file, content)
    finally:
        os.close(file)


def tree_of(folder: Path) -> Tree:
    """Return all that a backup keeps of each entry, by its path: kind and mode, owner, time, content or target."""
    found: Tree = {}
    fd = os.open(folder, FOLDER)
    found[b""] = (*_facts(os.fstat(fd)), None)
    path: list[bytes] = []
    todo = [_look(fd, path, found)]
    while True:
        if todo[-1]:
            name = todo[-1].pop()
            below = os.open(name, FOLDER, dir_fd=fd)
            os.close(fd)
            fd = below
            path.append(name)
            todo.append(_look(fd, path, found))
            continue
        todo.pop()
        if not todo:
            os.close(fd)
            return found
        above = os.open("..", FOLDER, dir_fd=fd)
        os.close(fd)
        fd = above
        path.pop()


def _facts(info: os.stat_result) -> tuple[object, ...]:
    return info.st_mode, info.st_uid, info.st_gid, info.st_mtime_ns


def _look(fd: int, path: list[bytes], found: Tree) -> list[bytes]:
    """Note what is in an open folder and return its folders."""
    folders = []
    for name in map(os.fsencode, os.listdir(fd)):
        info = os.stat(name, dir_fd=fd, follow_symlinks=False)
        content: object = None
        if stat.S_ISREG(info.st_mode):
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
            with open(file, "rb") as stream:
                content = hashlib.file_digest(stream, "sha256").hexdigest()
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(name, dir_fd=fd)
        elif stat.S_ISDIR(info.st_mode):
            folders.append(name)
        found[b"/".join([*path, name])] = (*_facts(info), content)
    return folders
