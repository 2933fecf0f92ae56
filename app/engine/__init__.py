"""Making, keeping and restoring archives. Knows no Flask, no SQLAlchemy, no Redis and no other module of this app."""

from .archive.manifest import DatabasePart, DocumentsPart, Manifest, TableEntry
from .archive.reader import ArchiveReader, read_manifest
from .backup.backup import DISK_RESERVE, BackupRequest, BackupResult, make_backup
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
from .progress import Progress
from .proof.check_archive import ArchiveCheck, CheckLimits, check_archive
from .proof.restore_test import RestoreTestReport, verify_by_restoring
from .restore.foreign_archive import Limits
from .restore.places.journal import KEPT, Journal
from .restore.places.journal import all_in as list_journals
from .restore.preview.documents_diff import DocumentsDiff
from .restore.preview.preview import Preview, preview
from .restore.preview.rows_diff import RowsDiff
from .restore.preview.tables_diff import TableDiff
from .restore.request import RestoreRequest
from .restore.restore import RestoreResult, restore, restore_from_file
from .restore.swap import MOST_KEPT, Recovered, discard, recover, surplus, survey_journals, undo
from .source.preflight import Source, check_source
from .storage.local import Partial, list_archives, list_partials, partial_path, remove_archive, remove_partials
from .storage.local import publish as publish_archive
from .system.processes import kill_orphans
from .verify.verify import VerifyReport, verify_archive

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
