"""What a restore would do, without doing it: the differences, what it needs, and what blocks it."""

from __future__ import annotations

import math
import os
import shutil
from dataclasses import replace
from typing import Any

import psycopg

from ...archive.budget import cpu_seconds_for
from ...archive.reader import parse_index_line
from ...backup.documents_writer import INCOMPLETE
from ...errors import ArchiveError, EngineError, SourceError, Subject
from ...progress import Meter, Progress
from ...source import server_disk
from ...source.documents import Document
from ...source.postgres import Connection, connect, one_line
from ...source.server_disk import ServerDisk
from ..foreign_archive import ForeignArchive, Limits, drain
from ..loading.load_foreign import DumpSurvey
from ..request import Origin, RestoreRequest, open_origin
from ..swap import MOST_KEPT, kept
from . import documents_diff
from .documents_diff import DocumentsDiff
from .findings import Findings, LiveServer, Preview
from .obstacles import ServerObstacles
from .tables_diff import TableDiff, TablesDiff

LOCK_SECONDS = 5
DATABASE_SPACE_FACTOR = 1.6
"""A loaded database, with its indexes, is expected to take this many times the bytes of its dump's text."""


class Previewer:
    """Looks at one archive and the live state; blockers and warnings are collected on the way."""

    def __init__(self, request: RestoreRequest, origin: Origin, meter: Meter) -> None:
        self._request = request
        self._origin = origin
        self._meter = meter
        self._blockers: list[str] = []
        self._warnings: list[str] = []
        self._survey: DumpSurvey | None = None
        self._foreign_documents: DocumentsDiff | None = None

    def find(self, exact: bool, until: float = math.inf) -> Findings:
        """Find out all. `exact`: count the rows, compare them as long as time.monotonic() is below `until`, and compare all
        documents."""
        request, origin = self._request, self._origin
        manifest = origin.reader.manifest if origin.reader else None
        if exact and not origin.uses_index(request.trusted):
            self._survey_archive()
        documents_diff = self._documents(exact) if request.with_documents else None
        server, tables = self._database(exact, until) if request.with_database else (None, [])
        needed, free = self._room(documents_diff, server)
        if not origin.signed:
            self._warn_of_origin()
        found = Preview(
            ours=origin.reader is not None,
            signed=origin.signed,
            trusted=request.trusted,
            scope=request.scope,
            strategy=server.strategy if server else "swap",
            database_name=str(server.facts["name"]) if server else "",
            tables=tables,
            documents=documents_diff,
            version_backup=manifest.server_version if manifest else self._survey_version(),
            version_now=str(server.facts["server_version"]) if server else "",
            disk_needed_bytes=needed,
            disk_free_bytes=free,
            blockers=self._blockers,
            warnings=self._warnings,
            code=self._survey.code.lines() if self._survey else [],
            exact=exact,
            archive_started_at=manifest.started_at if manifest else None,
        )
        return Findings(found, server, self._survey)

    def _database(self, exact: bool, until: float) -> tuple[LiveServer | None, list[TableDiff]]:
        """Look at the live database. What is known of its server stays known where its tables can't be read."""
        server: LiveServer | None = None
        tables: list[TableDiff] = []
        url, application = self._request.target.database_url, f"restore preview {self._request.restore_id}"
        try:
            with connect(url, application) as connection:
                connection.execute(f"SET lock_timeout = '{LOCK_SECONDS}s'".encode())
                server = self._look_at_server(connection)
                self._look_at_kept(connection, server)
                tables = self._tables(connection, exact, until)
        except (ArchiveError, SourceError) as error:
            self._blockers.append(str(error))
        except psycopg.errors.LockNotAvailable:
            self._blockers.append(
                "Another session keeps a table of the live database locked (ALTER TABLE, VACUUM FULL and the like), so it "
                "can't be read. Wait until that is done."
            )
        except psycopg.Error as error:
            self._blockers.append(f"The live database could not be read: {one_line(error)}")
        return server, tables

    def _look_at_kept(self, connection: Connection, server: LiveServer) -> None:
        """Warn of what happens to the states that earlier restores keep, and of the space that their databases take."""
        found = kept(self._request.state_dir, self._request.target)
        if len(found) < MOST_KEPT or server.strategy == "in_place":
            return
        oids = [oid for journal in found if journal.database for oid in (journal.database.new_oid, journal.database.old_oid)]
        row = connection.execute(
            "SELECT coalesce(sum(pg_database_size(oid)), 0)::bigint AS bytes FROM pg_database"
            " WHERE oid = ANY(%s::oid[]) AND datname <> current_database() AND has_database_privilege(oid, 'CONNECT')",
            [oids],
        ).fetchone()
        dropped = found[: len(found) - MOST_KEPT + 1]
        ids = ", ".join(str(journal.restore_id) for journal in dropped)
        megabytes = int(row["bytes"]) // 1_000_000 if row else 0
        self._warnings.append(
            f"{len(found)} earlier restores keep the state before them for an undo; their databases take "
            f"{megabytes} MB, and for each a folder of documents lies beside the live one. "
            f"At most {MOST_KEPT} states are kept: when this restore has succeeded, the oldest is dropped, so the restore "
            f"{ids} can't be undone any more. A safety backup that it made is not touched."
        )

    def _survey_version(self) -> str:
        return str(self._survey.version) if self._survey and self._survey.version else ""

    def _warn_of_origin(self) -> None:
        if self._request.trusted:
            self._warnings.append("This archive is not signed by this installation; an admin chose to trust it.")
            return
        self._warnings.append(
            "This archive is not signed by this installation. Its SQL is executed by a temporary role that may do nothing "
            "else; owners and grants in it are left out, and everything will belong to the live database's owner."
        )

    def _survey_archive(self) -> None:
        survey, comparison = DumpSurvey(), self._comparison()
        self._meter.phase("check", self._request.archive.stat().st_size)

        def on_document(entry: Document, content: Any) -> None:
            drain(content)
            if entry.kind == "file" and comparison is not None:
                comparison.take(entry.path, (entry.size, entry.mtime_ns))

        try:
            limits = limits_for(self._request)
            if not self._request.trusted:
                limits = replace(limits, cpu_seconds=cpu_seconds_for(self._request.archive.stat().st_size))
            with ForeignArchive(self._request.archive, limits, self._meter.add) as archive:
                archive.walk(on_document, lambda _name, text: survey.read(text))
        except EngineError as error:
            self._blockers.append(str(error))
        self._survey, self._foreign_documents = survey, comparison.result() if comparison is not None else None

    def _look_at_server(self, connection: Connection) -> LiveServer:
        manifest = self._origin.reader.manifest if self._origin.reader else None
        backup_facts = manifest.database.facts if manifest else None
        version = self._survey.version if self._survey else None
        if backup_facts is not None:
            version = int(backup_facts["server_version_num"]) // 10000
        found = ServerObstacles(connection, self._origin.may_run_as_us(self._request.trusted))
        rows = {(table.schema, table.name): table.rows for table in manifest.tables} if manifest else None
        found.look(version, backup_facts, rows)
        self._blockers += found.blockers
        self._warnings += found.warnings
        return LiveServer(found.facts, found.rights, found.strategy, server_disk.find(connection))

    def _tables(self, connection: Connection, exact: bool, until: float) -> list[TableDiff]:
        backup: dict[tuple[str, str], int] = {}
        if self._survey:
            backup = self._survey.rows
        elif self._origin.reader:
            backup = {(table.schema, table.name): table.rows for table in self._origin.reader.manifest.tables}
        reader = self._origin.reader if self._origin.uses_index(self._request.trusted) else None
        found = TablesDiff(connection, reader, backup, self._meter)
        return found.exact(until) if exact else found.quick()

    def _documents(self, exact: bool) -> DocumentsDiff:
        root = self._request.target.documents_dir
        manifest = self._origin.reader.manifest if self._origin.reader else None
        self._warnings += [text for text in (manifest.warnings if manifest else ()) if INCOMPLETE in text]
        files, size = (manifest.documents.files, manifest.documents.bytes) if manifest else (0, 0)
        if self._foreign_documents is not None:
            files, size = self._foreign_documents.files_backup, self._foreign_documents.bytes_backup
        if os.path.ismount(root):
            self._blockers.append(
                f"The documents folder {root} is a mount point, which can't be swapped: mount its parent folder instead."
            )
        elif not os.access(root.parent, os.W_OK | os.X_OK):
            self._blockers.append(f"{Subject.DOCUMENTS}: {root.parent} can't be written to, so the folder can't be swapped.")
        if not root.is_dir():
            self._warnings.append(f"The documents folder {root} does not exist now; the restore makes it.")
            return DocumentsDiff(0, 0, files, size, files, 0, 0, approximate=not exact)
        if exact:
            return self._foreign_documents or self._compare_index(documents_diff.Comparison(root, self._meter))
        now = documents_diff.quick_walk(root)
        return DocumentsDiff(now[0], now[1], files, size)

    def _compare_index(self, comparison: documents_diff.Comparison) -> DocumentsDiff:
        for raw in self._origin.reader.index_lines() if self._origin.reader else ():
            line = parse_index_line(raw)
            if line.entry.kind == "file":
                comparison.take(line.entry.path, (line.entry.size, line.entry.mtime_ns))
        return comparison.result()

    def _comparison(self) -> documents_diff.Comparison | None:
        if not self._request.with_documents:
            return None
        return documents_diff.Comparison(self._request.target.documents_dir, self._meter)

    def _room(self, diff: DocumentsDiff | None, server: LiveServer | None) -> tuple[int, int]:
        """Return (bytes needed for all, bytes free where the documents are staged), and block if something does not fit."""
        manifest = self._origin.reader.manifest if self._origin.reader else None
        sql_bytes = manifest.database.sql_bytes if manifest else self._survey.bytes if self._survey else 0
        database = int(sql_bytes * DATABASE_SPACE_FACTOR) if self._request.with_database else 0
        folder = self._request.target.documents_dir.parent
        free = shutil.disk_usage(folder).free if folder.is_dir() else 0
        staged = diff.bytes_backup if diff else 0
        if staged and free < staged + self._request.disk_reserve:
            self._blockers.append(
                f"The documents need {staged // 1_000_000 + 1} MB beside the live ones, but the disk of {folder} has only "
                f"{free // 1_000_000} MB left."
            )
        if database and server is not None:
            self._look_at_server_disk(server.disk, database, staged)
        return database + staged, free

    def _look_at_server_disk(self, disk: ServerDisk | None, database: int, staged: int) -> None:
        """Block if the database does not fit on its server's disk beside the live one, or warn that it can't be known."""
        needed = f"The database needs about {database // 1_000_000 + 1} MB on its server's disk beside the live one"
        if disk is None:
            self._warnings.append(f"{needed}; how much is free there can't be seen from this machine, so check that first.")
            return
        free, folder = disk.free_bytes(), self._request.target.documents_dir.parent
        shared = staged if folder.is_dir() and os.stat(folder).st_dev == disk.device else 0
        if free < database + shared + self._request.disk_reserve:
            also = f", and the documents {shared // 1_000_000 + 1} MB there" if shared else ""
            self._blockers.append(
                f"{needed}{also}, but only {free // 1_000_000} MB are free, of which "
                f"{self._request.disk_reserve // 1_000_000} MB are kept so that the server goes on. Free space there first."
            )


def limits_for(request: RestoreRequest) -> Limits:
    """Return the limits of an untrusted archive: it may unpack to what the disk has left beside the reserve."""
    folder = request.target.documents_dir.parent
    free = shutil.disk_usage(folder if folder.is_dir() else request.archive.parent).free
    return Limits(unpacked_bytes=max(0, free - request.disk_reserve) * 4)


def preview(
    request: RestoreRequest, exact: bool = False, progress: Progress | None = None, until: float = math.inf
) -> Preview:
    """Return what a restore would do.

    Not exact: within a second, from the manifest and the server's estimates. Exact: rows are counted and, in an archive with
    an index that may be believed, compared, as long as time.monotonic is not beyond `until`; every document is compared by
    size and time. What `progress` raises ends it. Raise ArchiveError if the file can't be opened.
    """
    origin = open_origin(request.archive, request.signing_key)
    try:
        return Previewer(request, origin, Meter(progress, request.stall_seconds)).find(exact, until).preview
    finally:
        origin.close()
