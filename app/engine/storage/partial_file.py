"""Archives that are not complete: what is found of them, and a file into which one is received from elsewhere."""

from __future__ import annotations

import ctypes
import os
import time
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

_FALLOC_FL_KEEP_SIZE = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Partial:
    """A file that is being written, or was when its worker ended."""

    path: Path
    backup_id: UUID
    attempt: int

    def idle_seconds(self) -> float:
        """Return for how long nothing was written to it; 0 if it is gone. Raise OSError if that can't be determined."""
        try:
            return time.time() - self.path.stat().st_mtime
        except FileNotFoundError:
            return 0.0


class PartialFile:
    """Every method raises OSError as the calls of the system below it do. A file or link that is there is never opened."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb", buffering=0
        )

    def reserve(self, length: int) -> bool:
        """Reserve space on the disk for that many bytes, where its file system can (fallocate(2)): whoever asks for free
        space meanwhile sees what is really left. Return whether it was reserved."""
        fallocate = getattr(_libc, "fallocate64", None) or getattr(_libc, "fallocate", None)
        if fallocate is None or length <= 0:
            return False
        offset_type = ctypes.c_int64
        return bool(fallocate(self._file.fileno(), _FALLOC_FL_KEEP_SIZE, offset_type(0), offset_type(length)) == 0)

    def write(self, data: bytes) -> None:
        """Append all of the data."""
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def sync(self) -> None:
        """Wait until the content is on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
