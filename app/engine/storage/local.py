"""The folder of archives: names, temporary files, and giving a finished archive its name without overwriting any."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from ..errors import PublishError

_PARTIAL = re.compile(r"\.(?P<id>[0-9a-f-]{36})\.(?P<attempt>\d+)\.partial")
_ARCHIVE = re.compile(r"(?P<app>.+)_backup_\d{8}_\d{6}\.tar\.gz")
_NAME_ATTEMPTS = 3600
_CANNOT_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


@dataclass(frozen=True)
class Partial:
    """A file that is being written, or was when its worker ended."""

    path: Path
    backup_id: UUID
    attempt: int


def partial_path(storage_dir: Path, backup_id: UUID, attempt: int) -> Path:
    """Given a run, return the temporary file it writes to."""
    return storage_dir / f".{backup_id}.{attempt}.partial"


def archive_name(app_name: str, moment: datetime) -> str:
    """Given an aware time, return the file name of an archive begun then."""
    return f"{app_name}_backup_{moment.astimezone(UTC):%Y%m%d_%H%M%S}.tar.gz"


def list_archives(storage_dir: Path, app_name: str | None = None) -> list[Path]:
    """Given the folder, return the archives in it under their final names, oldest name first."""
    if not storage_dir.is_dir():
        return []
    found = ((path, _ARCHIVE.fullmatch(path.name)) for path in storage_dir.iterdir())
    return sorted(path for path, match in found if match and app_name in (None, match["app"]) and path.is_file())


def list_partials(storage_dir: Path) -> list[Partial]:
    """Given the folder, return the temporary files in it."""
    if not storage_dir.is_dir():
        return []
    found = ((path, _PARTIAL.fullmatch(path.name)) for path in storage_dir.iterdir())
    return [Partial(path, UUID(match["id"]), int(match["attempt"])) for path, match in sorted(found) if match]


def remove_partials(storage_dir: Path, backup_id: UUID) -> int:
    """Given a run that writes no more, remove its temporary files and return how many there were."""
    mine = [partial for partial in list_partials(storage_dir) if partial.backup_id == backup_id]
    for partial in mine:
        partial.path.unlink(missing_ok=True)
    return len(mine)


def remove_archive(path: Path) -> None:
    """Remove an archive, if it is there, for good: a power cut does not bring it back. Raise OSError."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def publish(partial: Path, app_name: str, moment: datetime) -> Path:
    """Given a finished temporary file, give it its final name and return that; the name is durable afterwards.

    A name that is taken is never touched: the next free second is used. Raise PublishError if none can be had.
    """
    for seconds in range(_NAME_ATTEMPTS):
        final = partial.parent / archive_name(app_name, moment + timedelta(seconds=seconds))
        try:
            _rename_without_replacing(partial, final)
        except FileExistsError:
            continue
        except OSError as error:
            raise PublishError(
                f"The finished archive could not be named {final.name} ({error.strerror}); check that {partial.parent} "
                "is writable, then start the backup again."
            ) from error
        _make_name_durable(final)
        return final
    raise PublishError(
        f"Every name for an archive of {moment:%Y-%m-%d %H:%M} is taken in {partial.parent}; clear that folder."
    )


def _make_name_durable(final: Path) -> None:
    try:
        sync_folder(final.parent)
    except OSError as error:
        # A name that a power cut may take away is no backup's.
        final.unlink(missing_ok=True)
        raise PublishError(
            f"The disk of {final.parent} failed ({error.strerror}) while {final.name} was published; check that disk, then "
            "start the backup again."
        ) from error


def _rename_without_replacing(source: Path, target: Path) -> None:
    """Rename like rename(2), but raise FileExistsError instead of replacing: a hard link, else renameat2(2)."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
    else:
        os.unlink(source)
        return
    if sys.platform != "linux":
        raise OSError(errno.EOPNOTSUPP, "this filesystem has no hard links")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def sync_folder(folder: Path | int) -> None:
    """Make the names in a folder durable: its path, or its descriptor. Raise OSError if the disk fails."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if isinstance(folder, Path) else folder
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:  # some network filesystems can't fsync a folder
            raise
    finally:
        if isinstance(folder, Path):
            os.close(fd)
