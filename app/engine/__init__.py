"""Making, keeping and restoring archives. Knows no Flask, no SQLAlchemy, no Redis and no other module of this app."""

from .archive.archive_reader import ArchiveReader, read_manifest
from .archive.check_archive import ArchiveCheck, CheckLimits, check_archive
from .archive.foreign_archive import Limits
from .archive.manifest import DatabasePart, DocumentsPart, Manifest, TableEntry
from .archive.verify import VerifyReport, verify_archive
from .backup import DISK_RESERVE, BackupRequest, BackupResult, make_backup
from .errors import (
    ArchiveError,
    ArchiveLimitError,
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
from .preflight import Source, check_source
from .processes import kill_orphans
from .progress import Progress
from .restoring.documents_diff import DocumentsDiff
from .restoring.journal import KEPT, Journal
from .restoring.journal import all_in as list_journals
from .restoring.restore import RestoreResult, restore, restore_from_file
from .restoring.restore_preview import Preview, preview
from .restoring.restore_source import RestoreRequest
from .restoring.restore_test import RestoreTestReport, verify_by_restoring
from .restoring.rows_diff import RowsDiff
from .restoring.swap import MOST_KEPT, Recovered, discard, recover, surplus, survey_journals, undo
from .restoring.tables_diff import TableDiff
from .storage import Partial, list_archives, list_partials, partial_path, remove_archive, remove_partials
from .storage import publish as publish_archive

__all__ = [
    "DISK_RESERVE",
    "KEPT",
    "MOST_KEPT",
    "ArchiveCheck",
    "ArchiveError",
    "ArchiveLimitError",
    "ArchiveReader",
    "BackupRequest",
    "BackupResult",
    "CheckLimits",
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
    "RowsDiff",
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
    "remove_archive",
    "remove_partials",
    "restore",
    "restore_from_file",
    "surplus",
    "survey_journals",
    "undo",
    "verify_archive",
    "verify_by_restoring",
]
