"""Checking an archive from elsewhere to its last byte, without executing any of it, before it is listed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import EngineError, RestoreError
from ..files.documents import Document
from ..progress import Meter, Progress
from ..restoring.load_foreign import DumpSurvey
from ..restoring.restore_source import open_origin
from .foreign_archive import ForeignArchive, Limits, drain
from .manifest import Manifest
from .verify import verify_archive


@dataclass(frozen=True)
class ArchiveCheck:
    """What an archive turned out to be. `ours`: format 1; `signed`: by our key; counts where they are known."""

    problems: list[str]
    ours: bool
    signed: bool
    manifest: Manifest | None
    sha256: str
    size_bytes: int
    tables: int | None
    documents: int | None
    app: str | None
    rows: int | None = None
    documents_bytes: int | None = None
    server_version: str = ""

    @property
    def ok(self) -> bool:
        return not self.problems


def check_archive(
    path: Path, signing_key: bytes, progress: Progress | None = None, limits: Limits | None = None
) -> ArchiveCheck:
    """Given an archive, check all of it: ours by its manifest, any other by reading it through within the limits.

    What is wrong with it is a problem in the answer. Raise ArchiveError if the file can't be opened.
    """
    origin = open_origin(path, signing_key)
    origin.close()
    if origin.reader is None:
        return _check_foreign(path, progress, limits or Limits())
    report = verify_archive(path, signing_key, progress)
    manifest = report.manifest
    return ArchiveCheck(
        problems=report.problems,
        ours=True,
        signed=report.signed,
        manifest=manifest,
        sha256=report.sha256,
        size_bytes=report.size_bytes,
        tables=len(manifest.tables) if manifest else None,
        documents=manifest.documents.files if manifest else None,
        app=manifest.app if manifest else None,
        rows=sum(table.rows for table in manifest.tables) if manifest else None,
        documents_bytes=manifest.documents.bytes if manifest else None,
        server_version=manifest.server_version if manifest else "",
    )


def _check_foreign(path: Path, progress: Progress | None, limits: Limits) -> ArchiveCheck:
    meter = Meter(progress)
    meter.phase("verify", path.stat().st_size)
    survey, names, files, files_bytes = DumpSurvey(), [], 0, 0

    def on_document(entry: Document, content: Iterator[bytes]) -> None:
        nonlocal files, files_bytes
        files += entry.kind == "file"
        files_bytes += entry.size if entry.kind == "file" else 0
        drain(content)

    def on_dump(name: str, text: Iterator[bytes]) -> None:
        names.append(name)
        survey.read(text)

    problems: list[str] = []
    try:
        with ForeignArchive(path, limits, meter.add) as archive:
            archive.walk(on_document, on_dump)
        if not names and not files:
            raise RestoreError("The archive holds neither a dump (database/NAME.sql.gz) nor documents (documents/…).")
    except EngineError as error:
        problems.append(str(error))
    digest, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(4 * 1024 * 1024):
            digest.update(chunk)
            size += len(chunk)
            meter.tick()
    app = names[0].removesuffix(".gz").removesuffix(".sql") if names else None
    return ArchiveCheck(
        problems=problems,
        ours=False,
        signed=False,
        manifest=None,
        sha256=digest.hexdigest(),
        size_bytes=size,
        tables=len(survey.rows),
        documents=files,
        app=app,
        rows=sum(survey.rows.values()),
        documents_bytes=files_bytes,
        server_version=str(survey.version or ""),
    )
