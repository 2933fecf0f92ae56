"""What a restore would do, without doing it: the differences, what it needs, and what stands in its way."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from . import documents, staging_database
from .archive_reader import parse_index_line
from .documents import Document, Skipped, shown
from .errors import EngineError, SourceError
from .foreign_archive import ForeignArchive, Limits, drain
from .load_foreign import DumpSurvey
from .postgres import connect, one_line, server_facts
from .progress import Meter, Progress
from .restore_source import Origin, RestoreRequest, open_origin
from .sql_loader import Connection

EXAMPLES = 100
QUICK_WALK_SECONDS = 0.4
TIME_BITS = 63
DATABASE_SPACE_FACTOR = 1.6
"""A loaded database, with its indexes, is expected to take this many times the bytes of its dump's text."""


@dataclass(frozen=True)
class TableDiff:
    """A table's rows now and in the backup; None where it does not exist, or is not known yet."""

    schema: str
    name: str
    rows_now: int | None
    rows_backup: int | None
    approximate: bool


@dataclass(frozen=True)
class DocumentsDiff:
    """The documents now and in the backup. `added`: the restore brings it back; `lost`: the restore takes it away."""

    files_now: int
    bytes_now: int
    files_backup: int
    bytes_backup: int
    added: int | None = None
    changed: int | None = None
    lost: int | None = None
    examples: dict[str, list[str]] = field(default_factory=dict)
    approximate: bool = True


@dataclass(frozen=True)
class Preview:
    """What a restore would do. With blockers it would not begin. Sizes are bytes."""

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


_ESTIMATES: LiteralString = """
SELECT n.nspname AS schema, c.relname AS name, GREATEST(c.reltuples, s.n_live_tup, 0)::bigint AS rows
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
ORDER BY 1, 2
"""
_UNENDABLE: LiteralString = """
SELECT DISTINCT a.usename AS role FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
  AND (r.rolsuper OR NOT (pg_has_role(current_user, r.oid, 'USAGE')
                          OR pg_has_role(current_user, 'pg_signal_backend', 'USAGE')))
"""
_PREPARED: LiteralString = "SELECT min(gid) AS gid FROM pg_prepared_xacts WHERE database = current_database()"
_EXTENSIONS: LiteralString = """
SELECT x.name, bool_or(v.superuser AND NOT v.trusted) AS needs_superuser
FROM unnest(%s::text[]) AS x(name) LEFT JOIN pg_available_extension_versions v ON v.name = x.name
GROUP BY x.name HAVING bool_or(v.name IS NULL) OR bool_or(v.superuser AND NOT v.trusted)
"""


class Previewer:
    """Collects a preview; each `look_at` method adds what it finds."""

    def __init__(self, request: RestoreRequest, origin: Origin) -> None:
        self._request = request
        self._origin = origin
        self._blockers: list[str] = []
        self._warnings: list[str] = []
        self._code: list[str] = []
        self._survey: DumpSurvey | None = None
        self._foreign_documents: dict[str, int] | None = None
        self.facts: dict[str, Any] = {}
        self.rights: staging_database.Rights | None = None
        self.strategy = "swap"

    def look(self, exact: bool, meter: Meter) -> Preview:
        """Return the preview; `exact` counts rows and compares every document."""
        request, origin = self._request, self._origin
        manifest = origin.reader.manifest if origin.reader else None
        if exact and not origin.uses_index(request.trusted):
            self._survey_archive(meter)
        tables: list[TableDiff] = []
        if request.with_database:
            try:
                with connect(request.target.database_url, f"restore preview {request.restore_id}") as connection:
                    self._look_at_server(connection)
                    tables = self._tables(connection, exact)
            except SourceError as error:
                self._blockers.append(str(error))
            except psycopg.Error as error:
                self._blockers.append(f"The live database could not be read: {one_line(error)}")
        documents_diff = self._documents(exact, meter) if request.with_documents else None
        needed, free = self._room(documents_diff)
        if not origin.signed:
            self._warn_of_origin()
        return Preview(
            ours=origin.reader is not None,
            signed=origin.signed,
            trusted=request.trusted,
            scope=request.scope,
            strategy=self.strategy,
            database_name=str(self.facts.get("name", "")),
            tables=tables,
            documents=documents_diff,
            version_backup=manifest.server_version if manifest else self._survey_version(),
            version_now=str(self.facts.get("server_version", "")),
            disk_needed_bytes=needed,
            disk_free_bytes=free,
            blockers=self._blockers,
            warnings=self._warnings,
            code=self._code,
            exact=exact,
            archive_started_at=manifest.started_at if manifest else None,
        )

    def _survey_version(self) -> str:
        return str(self._survey.version) if self._survey and self._survey.version else ""

    def _warn_of_origin(self) -> None:
        if self._request.trusted:
            self._warnings.append("This archive is not signed by this installation; an admin has said to trust it.")
            return
        self._warnings.append(
            "This archive is not signed by this installation. Its SQL is executed by a throwaway role that may do nothing "
            "else; owners and grants in it are left out, and everything will belong to the live database's owner."
        )

    def _survey_archive(self, meter: Meter) -> None:
        survey, found = DumpSurvey(), dict[str, int]()
        meter.phase("check", self._request.archive.stat().st_size)

        def on_document(entry: Document, content: Any) -> None:
            drain(content)
            if entry.kind == "file":
                found[entry.path] = entry.size << TIME_BITS | entry.mtime_ns  # one number: there may be very many

        try:
            limits = limits_for(self._request)
            with ForeignArchive(self._request.archive, limits, meter.add) as archive:
                archive.walk(on_document, lambda name, text: survey.read(text))
        except EngineError as error:
            self._blockers.append(str(error))
        self._survey, self._foreign_documents = survey, found
        self._code = survey.code
        if survey.code_count > len(survey.code):
            self._code = [*survey.code, f"… and {survey.code_count - len(survey.code)} more."]

    def _look_at_server(self, connection: Connection) -> None:
        self.facts = server_facts(connection)
        self.rights = rights = staging_database.rights(connection)
        manifest = self._origin.reader.manifest if self._origin.reader else None
        backup_version = self._survey.version if self._survey else None
        if manifest:
            backup_version = int(manifest.database.facts["server_version_num"]) // 10000
        now = int(self.facts["server_version_num"]) // 10000
        if backup_version and backup_version > now:
            self._blockers.append(
                f"The backup comes from PostgreSQL {backup_version}, but the server is PostgreSQL {now}: an older server "
                f"can't load a newer dump. Upgrade the server to {backup_version} or newer first."
            )
        if not rights.owns_database:
            self._blockers.append(
                f"The role {rights.role} does not own the database {self.facts['name']}: ALTER DATABASE … OWNER TO it, or "
                "use the owner in BACKUP_SOURCE_URL."
            )
        if not rights.createdb:
            self.strategy = "in_place"
            self._warnings.append(
                f"The role {rights.role} may not create databases (ALTER ROLE … CREATEDB would let it), so the restore "
                "runs in one transaction inside the live database: still all or nothing, but the app waits meanwhile, and "
                "undoing means restoring the safety backup."
            )
        row = connection.execute(_PREPARED).fetchone()
        if row is not None and row["gid"] is not None and self.strategy == "swap":
            self._blockers.append(
                f"The database has the prepared transaction {row['gid']}, which keeps it in its place: COMMIT PREPARED or "
                "ROLLBACK PREPARED it first."
            )
        for row in connection.execute(_UNENDABLE):
            if self.strategy == "swap":
                self._blockers.append(
                    f"There is a session of the role {row['role']} which {rights.role} may not end: stop that program, or "
                    f"GRANT pg_signal_backend TO {rights.role} (superusers' sessions can't be ended by others)."
                )
        self._look_at_trust(rights)
        if manifest:
            self._look_at_extensions(connection, manifest.database.facts, rights)
            self._look_at_roles(connection, manifest.database.facts)

    def _look_at_trust(self, rights: staging_database.Rights) -> None:
        if self._origin.may_run_as_us(self._request.trusted):
            return
        if self.facts.get("owner_is_superuser"):
            self._blockers.append(
                f"The live database belongs to the superuser {self.facts['owner']}, and untrusted SQL never ends up owned "
                "by one. Give the database to a role of its own (ALTER DATABASE … OWNER TO), or trust this archive."
            )
        if not rights.createrole:
            self._blockers.append(
                f"This archive is untrusted, and the role {rights.role} may not create the sandbox role for it: ALTER ROLE "
                f"{rights.role} CREATEROLE, or trust this archive."
            )
        if self.strategy == "in_place":
            self._blockers.append(
                "An untrusted archive is never executed inside the live database: ALTER ROLE … CREATEDB first."
            )

    def _look_at_extensions(self, connection: Connection, facts: dict[str, Any], rights: staging_database.Rights) -> None:
        names = [extension["name"] for extension in facts["extensions"] if extension["name"] != "plpgsql"]
        for row in connection.execute(_EXTENSIONS, [names]):
            if row["needs_superuser"] is None:
                self._blockers.append(
                    f"The backup needs the extension {row['name']}, which this server does not have: install it."
                )
            elif not rights.superuser and self.strategy == "swap":
                self._blockers.append(
                    f"The backup needs the extension {row['name']}, which only a superuser may create; use a superuser in "
                    "BACKUP_SOURCE_URL for this restore."
                )

    def _look_at_roles(self, connection: Connection, facts: dict[str, Any]) -> None:
        names = [role["name"] for role in facts["roles"]]
        known = {
            row["name"]
            for row in connection.execute("SELECT rolname AS name FROM pg_roles WHERE rolname = ANY(%s)", [names])
        }
        for name in names:
            if name not in known:
                self._warnings.append(
                    f"The role {name} does not exist here: what it owned or was granted is left to the owner."
                )

    def _tables(self, connection: Connection, exact: bool) -> list[TableDiff]:
        now: dict[tuple[str, str], int] = {}
        for row in connection.execute(_ESTIMATES).fetchall():
            key = (row["schema"], row["name"])
            now[key] = row["rows"]
            if exact:
                count = sql.SQL("SELECT count(*) AS rows FROM ONLY {}").format(sql.Identifier(*key))
                found = connection.execute(count).fetchone()
                now[key] = int(found["rows"]) if found else 0
        backup: dict[tuple[str, str], int] = {}
        if self._survey:
            backup = self._survey.rows
        elif self._origin.reader:
            backup = {(table.schema, table.name): table.rows for table in self._origin.reader.manifest.tables}
        return [
            TableDiff(schema, name, now.get((schema, name)), backup.get((schema, name)), not exact)
            for schema, name in sorted(now.keys() | backup.keys())
        ]

    def _documents(self, exact: bool, meter: Meter) -> DocumentsDiff:
        root = self._request.target.documents_dir
        manifest = self._origin.reader.manifest if self._origin.reader else None
        files, size = (manifest.documents.files, manifest.documents.bytes) if manifest else (0, 0)
        if self._foreign_documents is not None:
            files = len(self._foreign_documents)
            size = sum(facts >> TIME_BITS for facts in self._foreign_documents.values())
        if os.path.ismount(root):
            self._blockers.append(
                f"The documents folder {root} is a mount point, which can't be exchanged: mount its parent folder instead."
            )
        elif not os.access(root.parent, os.W_OK | os.X_OK):
            self._blockers.append(
                f"BACKUP_DOCUMENTS_DIR: {root.parent} can't be written to, so the folder can't be exchanged."
            )
        if not root.is_dir():
            self._warnings.append(f"The documents folder {root} does not exist now; the restore makes it.")
            return DocumentsDiff(0, 0, files, size, files, 0, 0, approximate=not exact)
        if exact:
            return self._compare(root, files, size, meter)
        now = _quick_walk(root)
        return DocumentsDiff(now[0], now[1], files, size)

    def _compare(self, root: Path, files: int, size: int, meter: Meter) -> DocumentsDiff:
        live: dict[str, tuple[int, int]] = {}
        bytes_now = 0
        for found in documents.walk(root):
            if not isinstance(found, Skipped) and found.kind == "file":
                live[found.path] = (found.size, found.mtime_ns)
                bytes_now += found.size
            meter.tick()
        files_now, added, changed = len(live), 0, 0
        examples: dict[str, list[str]] = {"added": [], "changed": [], "lost": []}
        for path, facts in self._backup_files():
            present = live.pop(path, None)
            kind = "added" if present is None else "changed" if not _same(present, facts) else ""
            added, changed = added + (kind == "added"), changed + (kind == "changed")
            if kind and len(examples[kind]) < EXAMPLES:
                examples[kind].append(shown(path))
        examples["lost"] = [shown(path) for path in sorted(live)[:EXAMPLES]]
        return DocumentsDiff(files_now, bytes_now, files, size, added, changed, len(live), examples, approximate=False)

    def _backup_files(self) -> Any:
        if self._foreign_documents is not None:
            for path, facts in self._foreign_documents.items():
                yield path, (facts >> TIME_BITS, facts & ((1 << TIME_BITS) - 1))
        elif self._origin.reader:
            for raw in self._origin.reader.index_lines():
                line = parse_index_line(raw)
                if line.entry.kind == "file":
                    yield line.entry.path, (line.entry.size, line.entry.mtime_ns)

    def _room(self, diff: DocumentsDiff | None) -> tuple[int, int]:
        """Return (bytes needed, bytes free) where the documents are staged, and block if they do not fit.

        The database server's own disk can't be asked through SQL; its need is in the number all the same.
        """
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
        return database + staged, free


def _same(now: tuple[int, int], backup: tuple[int, int]) -> bool:
    """Given (size, mtime) pairs, return whether they mean the same file; plain tar keeps whole seconds only."""
    return now[0] == backup[0] and (
        now[1] == backup[1] or (backup[1] % 10**9 == 0 and now[1] // 10**9 == backup[1] // 10**9)
    )


def _quick_walk(root: Path) -> tuple[int, int]:
    files = size = 0
    until = time.monotonic() + QUICK_WALK_SECONDS
    for found in documents.walk(root):
        if not isinstance(found, Skipped) and found.kind == "file":
            files, size = files + 1, size + found.size
        if time.monotonic() > until:
            break
    return files, size


def limits_for(request: RestoreRequest) -> Limits:
    """Given a request, return how much its archive may unpack to: what the disk has left beside the reserve."""
    folder = request.target.documents_dir.parent
    free = shutil.disk_usage(folder if folder.is_dir() else request.archive.parent).free
    return Limits(unpacked_bytes=max(0, free - request.disk_reserve) * 4)


def preview(request: RestoreRequest, exact: bool = False, progress: Progress | None = None) -> Preview:
    """Given a request, return what its restore would do.

    Not exact: within a second, from the manifest and the server's estimates. Exact: rows are counted and every document is
    compared by size and time. Raise ArchiveError if the file can't be opened.
    """
    origin = open_origin(request.archive, request.signing_key)
    try:
        return Previewer(request, origin).look(exact, Meter(progress, request.stall_seconds))
    finally:
        origin.close()
