"""The engine's errors. Every message is one sentence for a person and says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EngineError(Exception):
    """The base of all errors that the engine raises deliberately."""


class Subject(StrEnum):
    """What a message is about, as a mark in its text. Callers replace the mark by the name that their users know."""

    SOURCE = "[source]"
    DOCUMENTS = "[documents]"
    STORAGE = "[storage]"
    TOOLS = "[tools]"


@dataclass(frozen=True)
class Problem:
    """A problem, and its subject."""

    subject: Subject
    detail: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.detail}"


class SourceError(EngineError):
    """The database, the documents, the storage or a tool can't be used as it is configured."""

    def __init__(self, subject: Subject, detail: str) -> None:
        super().__init__(f"{subject}: {detail}")
        self.problem = Problem(subject, detail)


class DumpError(EngineError):
    """pg_dump or its server failed, or its output is not a complete dump."""


class DiskFullError(EngineError):
    """There is, or would be, too little disk space for the archive."""


class StalledError(EngineError):
    """There was no progress for longer than the stall time."""


class ArchiveError(EngineError):
    """The file is not an archive that this version reads, or it is damaged."""


class ArchiveLimitError(ArchiveError):
    """Checking the archive would take more CPU time, time or memory than a check may."""


class PublishError(EngineError):
    """The finished archive could not be given its name."""


class RestoreError(EngineError):
    """A restore failed; the live database and documents are unchanged."""


class RestoreBlocked(RestoreError):
    """A blocker prevents the restore; it was found before anything was changed."""

    def __init__(self, blockers: list[str]) -> None:
        super().__init__(" ".join(blockers))
        self.blockers = blockers
