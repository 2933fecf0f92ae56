"""Find where a symbolic link leads, step by step as the kernel does (path_resolution(7)), through other links.

The threat: a link's own text does not show where it leads once there are links in its path or in its parent's
(`p/q/r -> ../..`, then `p/q/r/s -> ../../../etc`; `a -> .`, `a/b -> ../..`). The same answer is needed in a backup, which
leaves out what leads out, in an archive from elsewhere, which is refused for it, and in a finished staging folder: so a link
that a backup took is one that a restore takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from .folders import Folder, FolderCursor

MOST_LINKS = 40
"""The kernel follows no more links than this for one path (MAXSYMLINKS): what lies beyond can't be reached."""
MOST_STEPS = 4096
"""The longest target has 2,048 names; a link that takes more steps is malicious."""
LONGEST_WAY = 64 * 1024
"""In characters: twice the most bytes of a document's path."""


def is_possible_target(target: str) -> bool:
    """Return whether a link with such a target can be created, and can stay below a folder."""
    return bool(target) and "\0" not in target and not target.startswith("/")


def leads_out(path: str, target: str, target_of: Callable[[str], str | None]) -> bool:
    """Return whether the link at `path` leads, at any step, above the root or to an absolute path.

    `target_of` gets a path below the root without links in it and returns that link's target, or None if it is not a link.
    What does not exist counts as a folder, since it may be created later; so does a link beyond the kernel's limit.
    """
    if not is_possible_target(target):
        return True
    here = path.rpartition("/")[0]
    todo = target.split("/")
    todo.reverse()
    links = steps = 0
    while todo:
        name = todo.pop()
        steps += 1
        if steps > MOST_STEPS:
            return True
        if name in ("", "."):
            continue
        if name == "..":
            if not here:
                return True
            here = here.rpartition("/")[0]
            continue
        below = f"{here}/{name}" if here else name
        further = target_of(below) if links < MOST_LINKS else None
        if further is None:
            here = below
            if len(here) > LONGEST_WAY:
                return True
            continue
        links += 1
        if not is_possible_target(further):
            return True
        todo += reversed(further.split("/"))
    return False


class LinksOnDisk:
    """Check the links below an open root as they are on the disk now."""

    def __init__(self, root: Folder) -> None:
        self._cursor = FolderCursor(root)

    def leads_out(self, path: str, target: str, folder: Folder) -> bool:
        """Return whether the link at `path`, in this open folder, leads out of the root."""
        beside = path.rpartition("/")[0]

        def target_of(path: str) -> str | None:
            parent, _, name = path.rpartition("/")
            return self._read(name, parent, folder if parent == beside else None)

        return leads_out(path, target, target_of)

    def _read(self, name: str, parent: str, folder: Folder | None) -> str | None:
        try:
            return os.readlink(name, dir_fd=(folder or self._cursor.to(parent)).fd)
        except (OSError, ValueError):  # not a link, missing, or below a file
            return None
