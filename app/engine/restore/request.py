"""What a restore is asked to do, and where its archive comes from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from ..archive.reader import ArchiveReader, open_archive
from ..backup.backup import DISK_RESERVE
from ..errors import ArchiveError
from ..source.preflight import Source

SCOPES = ("all", "database", "documents")


@dataclass(frozen=True)
class RestoreRequest:
    """Which archive goes where. `trusted`: an admin vouches for an archive whose signature does not fit our key.

    `state_dir` holds the journals, `disk_reserve` is in bytes, `threads` None means one for each core.
    """

    archive: Path
    target: Source
    state_dir: Path
    signing_key: bytes
    restore_id: UUID
    scope: str = "all"
    trusted: bool = False
    disk_reserve: int = DISK_RESERVE
    stall_seconds: float = 600.0
    threads: int | None = None

    @property
    def with_database(self) -> bool:
        return self.scope in ("all", "database")

    @property
    def with_documents(self) -> bool:
        return self.scope in ("all", "documents")


@dataclass(frozen=True)
class Origin:
    """Where an archive comes from: `reader` if it has our index, `signed` if our key signed it."""

    reader: ArchiveReader | None
    signed: bool
    problem: str = ""

    def may_run_as_us(self, trusted: bool) -> bool:
        """Return whether its SQL may be executed by our own role."""
        return self.signed or trusted

    def uses_index(self, trusted: bool) -> bool:
        """Return whether it is restored by its index: parts side by side, as our own role."""
        return self.reader is not None and self.may_run_as_us(trusted)

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()


def open_origin(path: Path, signing_key: bytes) -> Origin:
    """Find out where an archive comes from. Raise ArchiveError if the file can't be opened."""
    try:
        reader = open_archive(path, signing_key)
    except ArchiveError as error:
        if not path.is_file():
            raise
        return Origin(None, False, str(error))
    return Origin(reader, bool(reader.manifest.signed))
