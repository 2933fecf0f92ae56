"""Making, keeping and restoring archives. Knows no Flask, no SQLAlchemy, no Redis and no other module of this app."""

from .archive_reader import ArchiveReader, read_manifest
from .backup import DISK_RESERVE, BackupRequest, BackupResult, make_backup
from .check_archive import ArchiveCheck, check_archive
from .documents_diff import DocumentsDiff
from .errors import (
    ArchiveError,
    DiskFullError,
    DumpError,
    EngineError,
    Problem,
    PublishError,
    RestoreBlocked,
    RestoreError,
    SourceError,
    StalledError,
)
from .foreign_archive import Limits
from .journal import KEPT, Journal
from .journal import all_in as list_journals
from .manifest import DatabasePart, DocumentsPart, Manifest, TableEntry
from .preflight import Source, check_source
from .processes import kill_orphans
from .progress import Progress
from .restore import RestoreResult, restore, restore_from_file
from .restore_preview import Preview, TableDiff, preview
from .restore_source import RestoreRequest
from .restore_test import RestoreTestReport, verify_by_restoring
from .storage import Partial, list_archives, list_partials, partial_path, remove_partials
from .storage import publish as publish_archive
from .swap import Recovered, discard, recover, undo
from .verify import VerifyReport, verify_archive

__all__ = [
    "DISK_RESERVE",
    "KEPT",
    "ArchiveCheck",
    "ArchiveError",
    "ArchiveReader",
    "BackupRequest",
    "BackupResult",
    "DatabasePart",
    "DiskFullError",
    "DocumentsDiff",
    "DocumentsPart",
    "DumpError",
    "EngineError",
    "Journal",
    "Limits",
    "Manifest",
    "Partial",
    "Preview",
    "Problem",
    "Progress",
    "PublishError",
    "Recovered",
    "RestoreBlocked",
    "RestoreError",
    "RestoreRequest",
    "RestoreResult",
    "RestoreTestReport",
    "Source",
    "SourceError",
    "StalledError",
    "TableDiff",
    "TableEntry",
    "VerifyReport",
    "check_archive",
    "check_source",
    "discard",
    "kill_orphans",
    "list_archives",
    "list_journals",
    "list_partials",
    "make_backup",
    "partial_path",
    "preview",
    "publish_archive",
    "read_manifest",
    "recover",
    "remove_partials",
    "restore",
    "restore_from_file",
    "undo",
    "verify_archive",
    "verify_by_restoring",
]
