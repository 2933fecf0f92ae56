"""Check that the archives' files still match the history; everything that relies on a file compares its size first."""

from __future__ import annotations

from app.engine.storage.interface import FileInfo
from app.models import BackupHistory
from app.services.installation.storage import storage


def look() -> dict[str, FileInfo]:
    """Return the contents of the storage by name. Raise OSError if it can't be read; a missing folder is empty."""
    return {info.name: info for info in storage().list()}


def look_at(filename: str) -> FileInfo | None:
    """Return the facts of one file, or None if it does not exist. Raise OSError if that can't be determined."""
    return storage().stat(filename)


def problem(filename: str, size_bytes: int, facts: FileInfo | None) -> str | None:
    """Return a sentence on what is wrong with an archive's file, or None."""
    if facts is None:
        return gone(filename)
    if not facts.is_regular:
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
