"""What the tests of archives share: making one, comparing folders, finding a file's gzip members."""

from __future__ import annotations

import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from app.engine.backup.backup import BackupRequest, BackupResult, make_backup
from app.engine.source.preflight import Source

KEY = b"a signing key for the tests"
APP = "motovaultpro"


@dataclass(frozen=True)
class Archive:
    """A published archive and the documents folder it was made from, which nobody changes."""

    path: Path
    documents: Path
    result: BackupResult


def request_for(url: str, documents: Path, storage: Path, **more: Any) -> BackupRequest:
    """Return a backup request with a small disk reserve and a new id."""
    values: dict[str, Any] = {"disk_reserve": 0, "threads": 2, "backup_id": uuid4()} | more
    return BackupRequest(Source(url, documents, APP), storage, KEY, **values)


def backup(url: str, documents: Path, storage: Path, **more: Any) -> BackupResult:
    """Make a backup of a source into a folder."""
    return make_backup(request_for(url, documents, storage, **more))


def borders(data: bytes) -> list[int]:
    """Return where each member of a gzip chain begins, and the end, found by Python's own zlib."""
    found, rest = [0], data
    while rest:
        unpacker = zlib.decompressobj(31)
        unpacker.decompress(rest)
        assert unpacker.eof
        rest = unpacker.unused_data
        found.append(len(data) - len(rest))
    return found


def picture(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """Return what an archive must keep of each entry below a folder: kind, mode, owner, seconds, content."""
    found: dict[bytes, tuple[object, ...]] = {}
    for place, folders, files in os.walk(os.fsencode(folder)):
        for name in [*folders, *files, b""]:
            path = os.path.join(place, name).rstrip(b"/")
            info = os.lstat(path)
            content: object = None
            if stat.S_ISREG(info.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            elif stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            time = None if stat.S_ISLNK(info.st_mode) else int(info.st_mtime_ns // 10**9)
            found[os.path.relpath(path, os.fsencode(folder))] = (info.st_mode, info.st_uid, info.st_gid, time, content)
    return found


def leftovers(storage: Path) -> list[str]:
    """Return the names in the storage folder that are not archives'."""
    return sorted(path.name for path in storage.iterdir() if not path.name.endswith(".tar.gz"))
