"""Making, keeping and restoring archives. Knows no Flask, no SQLAlchemy, no Redis and no other module of this app."""

from .archive_reader import ArchiveReader, read_manifest
from .backup import BackupRequest, BackupResult, make_backup
from .errors import (
    ArchiveError,
    DiskFullError,
    DumpError,
    EngineError,
    Problem,
    PublishError,
    SourceError,
    StalledError,
)
from .manifest import DatabasePart, DocumentsPart, Manifest, TableEntry
from .preflight import Source, check_source
from .processes import kill_orphans
from .progress import Progress
from .storage import Partial, list_archives, list_partials, remove_partials
from .verify import VerifyReport, verify_archive

__all__ = [
    "ArchiveError",
    "ArchiveReader",
    "BackupRequest",
    "BackupResult",
    "DatabasePart",
    "DiskFullError",
    "DocumentsPart",
    "DumpError",
    "EngineError",
    "Manifest",
    "Partial",
    "Problem",
    "Progress",
    "PublishError",
    "Source",
    "SourceError",
    "StalledError",
    "TableEntry",
    "VerifyReport",
    "check_source",
    "kill_orphans",
    "list_archives",
    "list_partials",
    "make_backup",
    "read_manifest",
    "remove_partials",
    "verify_archive",
]
