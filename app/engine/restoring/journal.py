"""What a restore has made and where it stands, in an fsynced file: so that whoever comes next can finish or undo it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from ..errors import RestoreError
from ..storage import sync_folder

STAGING = "staging"
EXCHANGING = "exchanging"
KEPT = "kept"


@dataclass(frozen=True)
class DatabasePair:
    """The live database's name, and the two databases that may bear it, known by their oids."""

    live_name: str
    other_name: str
    new_oid: int
    old_oid: int


@dataclass(frozen=True)
class FolderPair:
    """The live folder's path, the path of the other one beside it, and the two folders, known by (device, inode)."""

    live: str
    other: str
    new_inode: tuple[int, int]
    old_inode: tuple[int, int]
    by_children: bool = False


@dataclass(frozen=True)
class Journal:
    """A restore's state on this server and disk.

    `step`: staging (nothing live was touched), exchanging (towards `wanted`, "new" or "old"), kept (`wanted` is live, the
    other one is kept for an undo). A database or folder that is not in the restore's scope is None. `abandoned`: the swap
    failed, so that nothing is to be kept. `transaction`: the one in the live database that decides, for a restore in place.
    """

    restore_id: UUID
    step: str
    wanted: str = "new"
    staging_database: str | None = None
    staging_folder: str | None = None
    sandbox: bool = False
    database: DatabasePair | None = None
    folder: FolderPair | None = None
    abandoned: bool = False
    transaction: str | None = None

    def path(self, state_dir: Path) -> Path:
        return state_dir / f"{self.restore_id}.json"


def write(state_dir: Path, journal: Journal, **changes: Any) -> Journal:
    """Given a journal and changes to it, make them durable and return the new journal. Raise RestoreError."""
    journal = replace(journal, **changes)
    path = journal.path(state_dir)
    temporary = path.with_suffix(".tmp")
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, json.dumps({**asdict(journal), "restore_id": str(journal.restore_id)}, indent=1).encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, path)
        sync_folder(state_dir)
    except OSError as error:
        raise RestoreError(f"The restore's journal {path} can't be written: {error.strerror}.") from error
    return journal


def read(path: Path) -> Journal:
    """Given a journal's file, return it. Raise RestoreError if it can't be read."""
    try:
        values = json.loads(path.read_bytes())
        database, folder = values.pop("database"), values.pop("folder")
        if folder is not None:
            folder = FolderPair(
                **{**folder, "new_inode": tuple(folder["new_inode"]), "old_inode": tuple(folder["old_inode"])}
            )
        return Journal(
            **{**values, "restore_id": UUID(values["restore_id"])},
            database=DatabasePair(**database) if database is not None else None,
            folder=folder,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RestoreError(f"The restore's journal {path} can't be read ({error}); see the operator's guide.") from error


def all_in(state_dir: Path) -> list[Journal]:
    """Given the folder of journals, return all of them, oldest first."""
    if not state_dir.is_dir():
        return []
    return [read(path) for path in sorted(state_dir.glob("*.json"), key=lambda path: path.stat().st_mtime)]


def remove(state_dir: Path, journal: Journal) -> None:
    """Forget a journal: nothing of its restore is left but what is live."""
    path = journal.path(state_dir)
    path.with_suffix(".tmp").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    sync_folder(state_dir)


def remove_torn(state_dir: Path, alive: frozenset[UUID]) -> None:
    """Remove what a crash in the middle of `write` has left, for all restores but those in `alive`."""
    if state_dir.is_dir():
        for path in state_dir.glob("*.tmp"):
            if path.stem not in {str(restore_id) for restore_id in alive}:
                path.unlink(missing_ok=True)
