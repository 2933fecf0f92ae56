"""Preflight: find what would make a backup fail before the first byte is written."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import DiskFullError, Problem, SourceError, Subject
from . import postgres
from .clients import find_client
from .documents import FolderSize

EXPECTED_DUMP_SHARE = 0.35
"""A compressed dump's expected size as a share of the tables' size on disk; an estimate that only rules out hopeless
runs."""


@dataclass(frozen=True)
class Source:
    """The source of backups: a database by its libpq URL and a documents folder, under the app's name."""

    database_url: str
    documents_dir: Path
    app_name: str
    pg_bin_dir: Path | None = None


def check_source(source: Source, storage_dir: Path) -> list[Problem]:
    """Return every problem that would make a backup fail immediately."""
    problems: list[Problem] = []
    try:
        with postgres.connect(source.database_url, "backup check") as connection:
            find_client(connection.info.server_version // 10000, source.pg_bin_dir)
    except SourceError as error:
        problems.append(error.problem)
    checks: list[Callable[[], None]] = [
        lambda: check_documents(source.documents_dir),
        lambda: check_storage(storage_dir),
        lambda: check_nesting(source, storage_dir),
    ]
    for check in checks:
        try:
            check()
        except SourceError as error:
            problems.append(error.problem)
    return problems


def check_documents(folder: Path) -> None:
    """Raise SourceError if the documents folder is missing or can't be read."""
    if not os.path.isdir(folder):  # Path.is_dir raises below a folder that this user may not enter
        raise SourceError(
            Subject.DOCUMENTS,
            f"{folder} is not a folder that this user can reach; create it, give this user the right to enter the folders "
            "above it, or point the setting at the documents",
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise SourceError(Subject.DOCUMENTS, f"{folder} can't be read by this user; give it read permission")


READ_ONLY = (
    "is on a file system that is read-only, as it becomes after errors of its disk; look into the kernel's log (dmesg), "
    "repair it and mount it writable"
)


def is_read_only(folder: Path) -> bool:
    """Return whether a folder is on a file system that is mounted read-only."""
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def check_storage(folder: Path) -> None:
    """Create the storage folder if it is missing. Raise SourceError if it can't be written to."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SourceError(Subject.STORAGE, f"{folder} can't be created: {error.strerror}") from error
    if is_read_only(folder):
        raise SourceError(Subject.STORAGE, f"{folder} {READ_ONLY}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SourceError(Subject.STORAGE, f"{folder} can't be written to by this user; give it write permission")


def check_nesting(source: Source, storage_dir: Path) -> None:
    """Raise SourceError if the archives are in the documents folder: each backup would contain all earlier ones."""
    storage, folder = storage_dir.resolve(), source.documents_dir.resolve()
    if storage == folder or folder in storage.parents:
        raise SourceError(Subject.STORAGE, f"{storage} lies inside the documents folder {folder}; move it out of there")


def check_room(storage_dir: Path, tables_bytes: int, documents_size: FolderSize, reserve: int) -> None:
    """Raise DiskFullError if the archive would probably not leave `reserve` bytes free."""
    expected = int(tables_bytes * EXPECTED_DUMP_SHARE) + documents_size.bytes + documents_size.entries * 300
    free = shutil.disk_usage(storage_dir).free
    if free < expected // 2 + reserve:
        raise DiskFullError(
            f"The archive may need {expected // 1_000_000 + 1} MB and {reserve // 1_000_000} MB stay free, but the disk of "
            f"{storage_dir} has only {free // 1_000_000} MB left; free some room or move {Subject.STORAGE}."
        )
