"""What looking at an archive and at the live state has found: for people, and for the steps of a restore."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ...source.server_disk import ServerDisk
from ..loading.load_foreign import DumpSurvey
from ..places.staging_database import Rights
from .documents_diff import DocumentsDiff
from .tables_diff import TableDiff


@dataclass(frozen=True)
class Preview:
    """What a restore would do. With blockers it would not begin. Sizes are in bytes."""

    ours: bool
    signed: bool
    trusted: bool
    scope: str
    strategy: str
    database_name: str
    tables: list[TableDiff]
    documents: DocumentsDiff | None
    version_backup: str
    version_now: str
    disk_needed_bytes: int
    disk_free_bytes: int
    blockers: list[str]
    warnings: list[str]
    code: list[str]
    exact: bool
    archive_started_at: datetime | None


@dataclass(frozen=True)
class LiveServer:
    """The live database and its server. `facts` are as in a manifest; `disk` is None unless this machine can see it."""

    facts: dict[str, Any]
    rights: Rights
    strategy: str
    disk: ServerDisk | None


@dataclass(frozen=True)
class Findings:
    """The result of a preview. `server` is None for documents alone, or where the database could not be read.

    `survey` is what the dump was found to hold if the archive has no index that may be believed, after an exact preview.
    """

    preview: Preview
    server: LiveServer | None
    survey: DumpSurvey | None

    @property
    def live(self) -> LiveServer:
        """The live server, in a restore of the database: without it there was a blocker."""
        assert self.server is not None
        return self.server

    @property
    def dump(self) -> DumpSurvey:
        """The survey, in a restore of an archive without an index that may be believed."""
        assert self.survey is not None
        return self.survey
