"""What can go wrong in the engine. Every message is one sentence for a person and says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class EngineError(Exception):
    """The root of all errors that the engine raises on purpose."""


class Subject(StrEnum):
    """What a message is about, as a mark in its text. Callers replace the mark by the name that their users know."""

    SOURCE = "[source]"
    DOCUMENTS = "[documents]"
    STORAGE = "[storage]"
    TOOLS = "[tools]"


@dataclass(frozen=True)
class Problem:
    """One thing that stands in the way, and what it is about."""

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
    """pg_dump or its server failed, or what came out is not a whole dump."""


class DiskFullError(EngineError):
    """There is, or there would be, too little room for the archive."""


class StalledError(EngineError):
    """Nothing has moved for longer than the stall time."""


class ArchiveError(EngineError):
    """The file is no archive that this version reads, or it is damaged."""


class ArchiveLimitError(ArchiveError):
    """Checking the archive would take more CPU time, time or memory than a check may."""


class PublishError(EngineError):
    """The finished archive could not be given its name."""


class RestoreError(EngineError):
    """A restore could not be done; the live database and documents are as they were."""


class RestoreBlocked(RestoreError):
    """Something stands in the way of a restore, found before anything was touched."""

    def __init__(self, blockers: list[str]) -> None:
        super().__init__(" ".join(blockers))
        self.blockers = blockers
