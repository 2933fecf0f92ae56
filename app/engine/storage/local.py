"""Archives as files of one local folder: written under temporary names, and given their names without overwriting any."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from ..errors import PublishError
from .interface import Features, FileInfo
from .partial_file import Partial, PartialFile

_PARTIAL = re.compile(r"\.(?P<id>[0-9a-f-]{36})\.(?P<attempt>\d+)\.partial")
_ARCHIVE = re.compile(r"(?P<app>.+)_backup_\d{8}_\d{6}\.tar\.gz")
_NAME_ATTEMPTS = 3600
_CANNOT_SYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


class LocalBlob:
    """A file that is open for reading. Raise OSError if it can't be opened."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._fd).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, length, offset)

    def close(self) -> None:
        os.close(self._fd)


class LocalStorage:
    """Implements `interface.Storage`, and holds the files of backups that are not finished.

    Of a name only the last part counts, so none leads out of the folder.
    """

    features = Features(free_space=True, local_path=True, conditional_create=True)

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def local_path(self, name: str) -> Path:
        return self.folder / Path(name).name

    def open(self, name: str) -> LocalBlob:
        return LocalBlob(self.local_path(name))

    def list(self, prefix: str = "") -> Iterator[FileInfo]:
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.startswith(prefix):
                        try:
                            yield _info(entry.name, entry.stat(follow_symlinks=False))
                        except FileNotFoundError:
                            continue
        except FileNotFoundError:
            return

    def stat(self, name: str) -> FileInfo | None:
        path = self.local_path(name)
        try:
            return _info(path.name, path.lstat())
        except FileNotFoundError:
            return None

    def delete(self, name: str) -> None:
        self.local_path(name).unlink(missing_ok=True)
        sync_folder(self.folder)

    def free_space(self) -> int:
        return shutil.disk_usage(self.folder).free

    def total_space(self) -> int:
        """Return the size of the folder's disk in bytes. Raise OSError."""
        return shutil.disk_usage(self.folder).total

    def prepare(self) -> None:
        """Make the folder if it is missing. Raise OSError."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def or_nearest(self) -> LocalStorage:
        """Return this storage, or the nearest folder above that exists: the disk on which a missing folder will be made."""
        folder = self.folder
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        return LocalStorage(folder)

    def try_write(self) -> None:
        """Write a file and flush it and the folder to the disk, as a backup does. Raise OSError if that fails."""
        with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=self.folder) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def archives(self, app_name: str | None = None) -> Sequence[str]:
        """Return the names of the published archives of one app, oldest first, or of all apps in alphabetical order."""
        if not self.folder.is_dir():
            return []
        found = ((path, _ARCHIVE.fullmatch(path.name)) for path in self.folder.iterdir())
        return sorted(path.name for path, match in found if match and app_name in (None, match["app"]) and path.is_file())

    def partial_path(self, backup_id: UUID, attempt: int) -> Path:
        """Return where an attempt writes its archive until that is complete."""
        return self.folder / f".{backup_id}.{attempt}.partial"

    def new_partial(self, backup_id: UUID, attempt: int) -> PartialFile:
        """Create the file of an attempt. Raise OSError if that fails, or the file is there."""
        return PartialFile(self.partial_path(backup_id, attempt))

    def partials(self) -> Sequence[Partial]:
        """Return the unfinished files, in the order of their names."""
        if not self.folder.is_dir():
            return []
        found = ((path, _PARTIAL.fullmatch(path.name)) for path in self.folder.iterdir())
        return [Partial(path, UUID(match["id"]), int(match["attempt"])) for path, match in sorted(found) if match]

    def remove_partial(self, backup_id: UUID, attempt: int) -> None:
        """Remove the unfinished file of one attempt, if it is there. Raise OSError."""
        self.partial_path(backup_id, attempt).unlink(missing_ok=True)

    def remove_partials(self, backup_id: UUID) -> int:
        """Remove the unfinished files of all attempts of a backup that writes no more. Return how many there were."""
        mine = [partial for partial in self.partials() if partial.backup_id == backup_id]
        for partial in mine:
            partial.path.unlink(missing_ok=True)
        return len(mine)

    def create(self, name: str, file: Path) -> None:
        """Move a finished file of the same file system to its name, durably.

        Raise FileExistsError if the name is taken, another OSError if the file can't be moved, and PublishError if the name
        can't be made durable; then the file is gone.
        """
        final = self.local_path(name)
        _rename_without_replacing(file, final)
        _make_name_durable(final)

    def publish(self, partial: Path, app_name: str, moment: datetime) -> str:
        """Name a finished archive after its app and the time when it began, and return that name.

        A name that is taken is never touched: the next free second is used. Raise PublishError if that fails.
        """
        for seconds in range(_NAME_ATTEMPTS):
            name = archive_name(app_name, moment + timedelta(seconds=seconds))
            try:
                self.create(name, partial)
            except FileExistsError:
                continue
            except OSError as error:
                raise PublishError(
                    f"The finished archive could not be named {name} ({error.strerror}); check that {self.folder} "
                    "is writable, then start the backup again."
                ) from error
            return name
        raise PublishError(
            f"Every name for an archive of {moment:%Y-%m-%d %H:%M} is taken in {self.folder}; clear that folder."
        )


def archive_name(app_name: str, moment: datetime) -> str:
    """Return the file name of an archive begun at an aware time."""
    return f"{app_name}_backup_{moment.astimezone(UTC):%Y%m%d_%H%M%S}.tar.gz"


def _info(name: str, found: os.stat_result) -> FileInfo:
    return FileInfo(name, found.st_size, found.st_mtime_ns, stat.S_ISREG(found.st_mode))


def _make_name_durable(final: Path) -> None:
    try:
        sync_folder(final.parent)
    except OSError as error:
        # A name that a power cut may remove is not a backup's.
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
