"""One backup, from the preflight to the published archive. Needs no Flask, no Redis and no metadata database."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from ..archive.gzip_members import footer
from ..archive.layout import database_path, manifest_member
from ..archive.manifest import DatabasePart, DocumentsPart, Manifest, serialise
from ..archive.writer import ArchiveFile, MemberPipeline, disk_error, writing
from ..errors import ArchiveError, DumpError
from ..progress import Meter, Progress
from ..source import postgres, preflight
from ..source.clients import Client, find_client
from ..source.documents import FolderSize, measure
from ..source.needs import read_needs, unrestorable
from ..source.postgres import Snapshot
from ..source.preflight import Source
from ..storage.local import LocalStorage
from ..system.memory import tune_malloc
from ..system.threads import quick_handover, threads_of_machine
from ..verify.verify import VerifyReport, verify_archive
from ..version import VERSION
from . import dump
from .database_writer import DatabaseWriter, WrittenDump
from .documents_writer import DocumentsWriter
from .packers import Packers, packers
from .parallel_dump import parallel_dump

DISK_RESERVE = 256 * 1024 * 1024
WARNINGS_KEPT = 1000
_OF_A_WRITE = (errno.EROFS, errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class BackupRequest:
    """What to back up, where to, and as which run. `disk_reserve` is in bytes; `threads` None: one per core."""

    source: Source
    storage_dir: Path
    signing_key: bytes
    backup_id: UUID
    kind: str = "manual"
    attempt: int = 1
    labels: dict[str, str] = field(default_factory=dict)
    disk_reserve: int = DISK_RESERVE
    stall_seconds: float = 600.0
    threads: int | None = None


@dataclass(frozen=True)
class BackupResult:
    """A published archive. Times are aware UTC."""

    path: Path
    filename: str
    size_bytes: int
    sha256: str
    warnings: list[str]
    manifest: Manifest
    started_at: datetime
    finished_at: datetime
    verified_at: datetime


class Warnings:
    """The warnings of a run: the first ones in full, the rest counted."""

    def __init__(self) -> None:
        self._kept: list[str] = []
        self._left_out = 0

    def add(self, text: str) -> None:
        if len(self._kept) < WARNINGS_KEPT:
            self._kept.append(text)
        else:
            self._left_out += 1

    def all(self) -> list[str]:
        return self._kept + ([f"… and {self._left_out} more warnings."] if self._left_out else [])


def make_backup(
    request: BackupRequest,
    progress: Progress | None = None,
    before_publish: Callable[[], None] | None = None,
) -> BackupResult:
    """Write, verify and publish an archive.

    `before_publish` is called when everything is verified, just before the archive gets its name; an exception from it, or
    from `progress` at any time, stops the backup. Raise EngineError otherwise. Unless the archive was published, nothing of
    it remains.
    """
    tune_malloc()
    started_at = datetime.now(UTC)
    meter = Meter(progress, request.stall_seconds)
    meter.phase("preflight")
    preflight.check_storage(request.storage_dir)
    preflight.check_documents(request.source.documents_dir)
    preflight.check_nesting(request.source, request.storage_dir)
    storage = LocalStorage(request.storage_dir)
    partial = storage.partial_path(request.backup_id, request.attempt)
    try:
        with quick_handover():
            _write(_Run(request, started_at, meter), partial)
            report = _verify(request, partial, progress)
        meter.phase("publish")
        if before_publish is not None:
            before_publish()
        filename = storage.publish(partial, request.source.app_name, started_at)
    except OSError as error:
        if error.filename is None and error.errno not in _OF_A_WRITE:
            raise
        if error.filename is not None and not str(error.filename).startswith(str(request.storage_dir)):
            raise
        raise disk_error(error, partial) from error
    finally:
        # On a disk that went read-only this fails too, and must not hide the cause; the cleanup removes it later.
        with contextlib.suppress(OSError):
            storage.remove_partial(request.backup_id, request.attempt)
    assert report.manifest is not None
    return BackupResult(
        path=storage.local_path(filename),
        filename=filename,
        size_bytes=report.size_bytes,
        sha256=report.sha256,
        warnings=report.manifest.warnings,
        manifest=report.manifest,
        started_at=started_at,
        finished_at=datetime.now(UTC),
        verified_at=report.verified_at,
    )


def _verify(request: BackupRequest, partial: Path, progress: Progress | None) -> VerifyReport:
    report = verify_archive(partial, request.signing_key, progress, request.stall_seconds, request.threads)
    if not report.ok:
        raise ArchiveError(
            f"What was read back differs from what was written ({report.problems[0]}); check the disk and the memory of "
            "this machine before you trust it with another backup."
        )
    return report


@dataclass
class _Run:
    """One backup under way."""

    request: BackupRequest
    started_at: datetime
    meter: Meter
    warnings: Warnings = field(default_factory=Warnings)

    @property
    def threads(self) -> int:
        return threads_of_machine(self.request.threads)


def _write(run: _Run, partial: Path) -> None:
    request, source, meter = run.request, run.request.source, run.meter
    with postgres.connect(source.database_url, f"backup {request.backup_id}") as connection:
        client = find_client(connection.info.server_version // 10000, source.pg_bin_dir)
        try:
            with postgres.snapshot(connection, meter.tick) as snapshot:
                tables_bytes = sum(table.size_bytes for table in snapshot.tables)
                preflight.check_room(request.storage_dir, tables_bytes, FolderSize(0, 0), request.disk_reserve)
                with (
                    writing(partial, request.disk_reserve, meter, run.threads) as pipeline,
                    contextlib.ExitStack() as until_written,
                ):
                    facts = {**snapshot.facts, "needs": read_needs(connection)}
                    for text in unrestorable(connection, facts):
                        run.warnings.add(text)
                    ahead = _DocumentsAhead(run, tables_bytes, pipeline, until_written)
                    written = _write_database(run, pipeline, client, snapshot, ahead.prepare)
                    connection.execute("COMMIT")  # the documents don't need the tables' locks
                    meter.phase("documents", ahead.size.bytes)
                    writer = DocumentsWriter(pipeline, meter, run.warnings.add, request.storage_dir, ahead.helpers)
                    with contextlib.closing(writer):
                        documents = writer.write(source.documents_dir)
                    database = _database_part(source, client, facts, written)
                    _write_end(run, pipeline.file, written.head, database, documents)
                    pipeline.file.sync(meter.tick)
        except psycopg.Error as error:
            raise DumpError(f"The database connection was lost: {postgres.one_line(error)}") from error


@dataclass
class _DocumentsAhead:
    """What is known of the documents before they are written. The helpers run until `until_written` is left."""

    run: _Run
    tables_bytes: int
    pipeline: MemberPipeline
    until_written: contextlib.ExitStack
    size: FolderSize = field(default=FolderSize(0, 0))
    helpers: Packers | None = None

    def prepare(self) -> None:
        """Measure the documents, make sure that the disk has room for all, and start the helpers: while pg_dump reads the
        catalogs."""
        request, root = self.run.request, self.run.request.source.documents_dir
        self.size = measure(root, self.run.meter.tick)
        preflight.check_room(request.storage_dir, self.tables_bytes, self.size, request.disk_reserve)
        helpers = packers(root, self.size.bytes, self.run.threads, self.pipeline.limit, request.backup_id)
        self.helpers = self.until_written.enter_context(helpers)
        self.run.meter.phase("database", self.tables_bytes)


def _write_database(
    run: _Run, pipeline: MemberPipeline, client: Client, snapshot: Snapshot, meanwhile: Callable[[], None]
) -> WrittenDump:
    source = run.request.source
    writer = DatabaseWriter(pipeline, run.meter, source.app_name, int(run.started_at.timestamp()))
    # Both must support them; an older server could not load the statistics that a newer pg_dump writes.
    statistics = min(client.version, int(snapshot.facts["server_version_num"]) // 10000) >= dump.STATISTICS_SINCE
    order = dump.DumpOrder(
        client,
        source.database_url,
        snapshot.id,
        run.request.backup_id,
        encoding=str(snapshot.facts["encoding"]),
        with_statistics=statistics,
        threads=run.threads,
    )
    for warning in parallel_dump(order, snapshot.tables, run.meter, writer, meanwhile):
        run.warnings.add(warning)
    return writer.finish()


def _database_part(source: Source, client: Client, facts: dict[str, Any], written: WrittenDump) -> DatabasePart:
    facts = dict(facts)
    return DatabasePart(
        path=database_path(source.app_name),
        size_bytes=written.size_bytes,
        sha256=written.sha256,
        sql_bytes=written.sql_bytes,
        snapshot_lsn=facts.pop("lsn"),
        facts=facts,
        pg_dump_version=client.full_version,
        segments=written.segments,
    )


def _write_end(run: _Run, file: ArchiveFile, head: bytes, database: DatabasePart, documents: DocumentsPart) -> None:
    request = run.request
    manifest = Manifest(
        backup_id=request.backup_id,
        app=request.source.app_name,
        kind=request.kind,
        attempt=request.attempt,
        started_at=run.started_at,
        finished_at=datetime.now(UTC),
        tool_version=VERSION,
        labels=request.labels,
        database=database,
        documents=documents,
        warnings=run.warnings.all(),
        header_bytes=len(head),
        raw_sha256=file.digest_with(head),
    )
    text = serialise(manifest.as_json(), request.signing_key)
    offset, length = file.write(manifest_member(text, int(run.started_at.timestamp())), hashed=False)
    file.write([footer(offset, length)], hashed=False)
