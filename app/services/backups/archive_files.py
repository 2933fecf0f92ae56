"""Check that the archives' files still match the history; everything that relies on a file compares its size first."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

from app import current
from app.models import BackupHistory


class FileFacts(NamedTuple):
    """A name in the storage folder: whether it is a regular file, its size in bytes, and its modification time."""

    regular: bool
    size: int
    mtime_ns: int


def look() -> dict[str, FileFacts]:
    """Return the contents of the storage folder by name. Raise OSError if it can't be read; a missing folder is empty."""
    found = {}
    try:
        with os.scandir(_folder()) as entries:
            for entry in entries:
                try:
                    found[entry.name] = _of(entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue
    except FileNotFoundError:
        return {}
    return found


def look_at(filename: str) -> FileFacts | None:
    """Return the facts of one file, or None if it does not exist. Raise OSError if that can't be determined."""
    try:
        return _of((_folder() / Path(filename).name).lstat())
    except FileNotFoundError:
        return None


def problem(filename: str, size_bytes: int, facts: FileFacts | None) -> str | None:
    """Return a sentence on what is wrong with an archive's file, or None."""
    if facts is None:
        return gone(filename)
    if not facts.regular:
        return f"{filename} is no longer a regular file. Put the archive back in its place, or delete this entry."
    if facts.size != size_bytes:
        return (
            f"{filename} has {facts.size:,} bytes instead of {size_bytes:,}: it was truncated or changed after it was made. "
            "Put the right file back, or delete this entry."
        )
    return None


def gone(filename: str) -> str:
    """Return the message for a missing archive."""
    return f"{filename} is no longer in the storage folder. Put it back, or delete this entry."


def damage(row: BackupHistory) -> str | None:
    """Return what is wrong with a completed backup's archive, by its present size or as an earlier verification found it, or
    None."""
    if row.status != "completed" or row.filename is None or row.size_bytes is None:
        return None
    if row.damaged is not None:
        return row.damaged
    try:
        return problem(row.filename, row.size_bytes, look_at(row.filename))
    except OSError as error:
        return f"{row.filename} can't be accessed ({error.strerror}). Check BACKUP_STORAGE_DIR."


def _of(found: os.stat_result) -> FileFacts:
    return FileFacts(stat.S_ISREG(found.st_mode), found.st_size, found.st_mtime_ns)


def _folder() -> Path:
    settings = current.settings()
    return settings.storage_dir
