"""One restore: checked, staged beside the live state, verified, swapped in. Until the swap, nothing live is touched."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg import sql

from . import journal as journals
from . import staging_database
from .archive_reader import ArchiveReader
from .database_settings import apply_settings
from .documents import Document
from .errors import ArchiveError, EngineError, RestoreBlocked, RestoreError
from .exchange import inode
from .foreign_archive import ForeignArchive, drain
from .in_place import restore_in_place
from .journal import DatabasePair, FolderPair, Journal
from .load_foreign import DumpLoader, count_rows
from .load_ours import ArchiveLoader
from .postgres import connect, one_line
from .preflight import Source
from .progress import Meter, Progress
from .restore_check import check_vouched_parts
from .restore_preview import Previewer, TableDiff, limits_for
from .restore_source import Origin, RestoreRequest, open_origin
from .sql_loader import Connection
from .staging_database import Sandbox, maintenance, with_database
from .staging_documents import DocumentsStager, StagingFolder
from .swap import clear_staging, commit_point, recover, settle, swap_in
from .threads import threads_of_machine

WAIT_SECONDS = 0.1


@dataclass(frozen=True)
class RestoreResult:
    """A restore that is live. `tables` hold the rows before and after; `gap_seconds`: how long the database was away."""

    strategy: str
    undo_possible: bool
    tables: list[TableDiff]
    documents_before: int
    documents_after: int
    warnings: list[str]
    gap_seconds: float
    finished_at: datetime


@dataclass
class _Run:
    """What one restore has found out and made so far."""

    request: RestoreRequest
    origin: Origin
    meter: Meter
    threads: int
    journal: Journal
    previewer: Previewer
    tables_before: dict[tuple[str, str], int | None] = field(default_factory=dict)
    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    documents_before: int = 0
    documents_after: int = 0
    sandbox: Sandbox | None = None
    folder: StagingFolder | None = None

    def note(self, **changes: Any) -> None:
        self.journal = journals.write(self.request.state_dir, self.journal, **changes)

    @property
    def url(self) -> str:
        return self.request.target.database_url


def restore(
    request: RestoreRequest,
    progress: Progress | None = None,
    before_swap: Callable[[], None] | None = None,
) -> RestoreResult:
    """Given a request, restore it. Unless this returns, the live database and documents are what they were.

    `before_swap` is called when all is staged and verified; what it raises ends the restore, as does whatever `progress`
    raises before that. Raise RestoreBlocked for what the preview calls blockers, else EngineError.
    """
    meter = Meter(progress, request.stall_seconds)
    origin = open_origin(request.archive, request.signing_key)
    journal = Journal(request.restore_id, journals.STAGING)
    run = _Run(request, origin, meter, threads_of_machine(request.threads), journal, Previewer(request, origin))
    try:
        _check(run)
        return _restore(run, before_swap)
    except psycopg.Error as error:
        raise RestoreError(f"The database server failed during the restore: {one_line(error)}") from error
    except OSError as error:
        raise RestoreError(f"The disk failed during the restore: {error.strerror} ({error.filename}).") from error
    finally:
        origin.close()


def _check(run: _Run) -> None:
    """Check the archive as far as can be without executing it, and whether anything stands in the way."""
    request = run.request
    if run.origin.uses_index(request.trusted):
        assert run.origin.reader is not None
        try:
            check_vouched_parts(run.origin.reader, run.meter, request.with_database, request.with_documents)
        except ArchiveError as error:
            raise RestoreBlocked([str(error)]) from error
    run.meter.phase("prepare")
    # An untrusted archive is surveyed to its last byte before anything is made: what is cut or refused never gets further.
    preview = run.previewer.look(not run.origin.uses_index(request.trusted), run.meter)
    if preview.blockers:
        raise RestoreBlocked(preview.blockers)
    run.warnings += preview.warnings
    run.tables_before = {
        (table.schema, table.name): table.rows_now for table in preview.tables if table.rows_now is not None
    }
    if preview.documents:
        run.documents_before = preview.documents.files_now


def _restore(run: _Run, before_swap: Callable[[], None] | None) -> RestoreResult:
    gap = 0.0
    in_place = run.request.with_database and run.previewer.strategy == "in_place"
    run.note()
    try:
        if in_place:
            _stage(run, with_database=False)
            gap = _replace_in_place(run, before_swap)
        else:
            _stage(run, with_database=run.request.with_database)
            run.meter.phase("swap")
            if before_swap is not None:
                before_swap()
            gap = swap_in(run.journal, run.request.state_dir, run.url, run.meter)
    except BaseException:
        # Where the server is away, `recover` does it later.
        with contextlib.suppress(EngineError, psycopg.Error, OSError):
            journal = journals.read(run.journal.path(run.request.state_dir))
            if journal.step == journals.STAGING:
                clear_staging(journal, run.request.state_dir, run.url)
        raise
    return RestoreResult(
        strategy=run.previewer.strategy if run.request.with_database else "swap",
        undo_possible=not in_place,
        tables=_tables(run),
        documents_before=run.documents_before,
        documents_after=run.documents_after,
        warnings=run.warnings,
        gap_seconds=gap,
        finished_at=datetime.now(UTC),
    )


def _replace_in_place(run: _Run, before_swap: Callable[[], None] | None) -> float:
    def before_commit(connection: Connection) -> None:
        if before_swap is not None:
            before_swap()
        run.journal = commit_point(connection, run.journal, run.request.state_dir)

    try:
        gap = restore_in_place(run.origin, run.url, run.request, run.meter, run.rows, run.warnings, before_commit)
    except BaseException:
        if run.journal.transaction is not None:
            with contextlib.suppress(EngineError, psycopg.Error):
                settle(run.journal, run.request.state_dir, run.url)
        raise
    settle(run.journal, run.request.state_dir, run.url)
    return gap


def _tables(run: _Run) -> list[TableDiff]:
    keys = sorted(run.tables_before.keys() | run.rows.keys())
    return [TableDiff(*key, run.tables_before.get(key), run.rows.get(key), approximate=True) for key in keys]


def _stage(run: _Run, with_database: bool) -> None:
    """Build the staging database and folder, checked and counted."""
    request = run.request
    if request.with_documents:
        live = request.target.documents_dir.resolve()
        path = live.parent / f".{live.name}_restore_{request.restore_id.hex[:12]}"
        run.note(staging_folder=str(path))
        run.folder = StagingFolder(path)
    if run.origin.uses_index(request.trusted):
        assert run.origin.reader is not None
        with _documents_beside(run, run.origin.reader) as documents_done:
            if with_database:
                with _staging_database(run) as connect_to:
                    _load_ours(run, run.origin.reader, connect_to)
            documents_done()
    elif with_database:
        with _staging_database(run) as connect_to:
            _load_foreign(run, connect_to)
    else:
        _walk_foreign(run, None)
    if run.folder is not None:
        run.documents_after = run.folder.files
    _note_pairs(run, with_database)


@contextlib.contextmanager
def _documents_beside(run: _Run, reader: ArchiveReader) -> Iterator[Callable[[], None]]:
    """Unpack the documents in threads while the block works on the database; the block calls what it gets to wait."""
    if run.folder is None:
        yield lambda: None
        return
    counts: list[int] = []
    stager = DocumentsStager(reader, run.folder, run.threads, counts.append)

    def wait() -> None:
        run.meter.phase("documents", reader.manifest.documents.bytes)
        counted = 0
        while not stager.done.done():
            done = len(counts)
            run.meter.add(sum(counts[counted:done]))
            counted = done
            time.sleep(WAIT_SECONDS)
        stager.done.result()

    try:
        yield wait
    finally:
        stager.stop()


@contextlib.contextmanager
def _staging_database(run: _Run) -> Iterator[Callable[[], Connection]]:
    """Create the staging database, yield how to connect to it, and afterwards hand it to its owner."""
    request = run.request
    live = str(run.previewer.facts["name"])
    name = staging_database.derived_name(live, "restore", request.restore_id)
    ours = run.origin.may_run_as_us(request.trusted)
    reader = run.origin.reader
    facts = reader.manifest.database.facts if reader is not None and ours else run.previewer.facts
    run.note(staging_database=name, sandbox=not ours)
    with maintenance(run.url, request.restore_id) as connection:
        staging_database.create(connection, name, facts, _owner(run, connection, facts))
        url = with_database(run.url, name)
        if not ours:
            run.sandbox = staging_database.create_sandbox(connection, request.restore_id)
            _open_to_sandbox(run, connection, url, name)
            url = with_database(run.url, name, run.sandbox.role, run.sandbox.password)
        yield lambda: connect(url, f"restore {request.restore_id}")
        if run.sandbox is not None:
            _take_from_sandbox(run, connection, with_database(run.url, name), name)
        run.warnings += apply_settings(connection, name, facts)


def _owner(run: _Run, connection: Connection, facts: dict[str, Any]) -> str:
    """Return who is to own the staging database: the backup's owner if we may give it to them, else the live one's."""
    wanted, live = str(facts["owner"]), str(run.previewer.facts["owner"])
    row = connection.execute(
        "SELECT pg_has_role(current_user, oid, 'MEMBER') AS may FROM pg_roles WHERE rolname = %s", [wanted]
    ).fetchone()
    return wanted if row and row["may"] else live


def _open_to_sandbox(run: _Run, connection: Connection, url: str, name: str) -> None:
    assert run.sandbox is not None
    role = sql.Identifier(run.sandbox.role)
    connection.execute(sql.SQL("GRANT ALL ON DATABASE {} TO {}").format(sql.Identifier(name), role))
    with connect(url, f"restore {run.request.restore_id}") as inside:
        inside.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(role))


def _take_from_sandbox(run: _Run, connection: Connection, url: str, name: str) -> None:
    """Hand what the sandbox role made to the live database's owner, who is no superuser, and drop the role."""
    assert run.sandbox is not None
    role, owner = sql.Identifier(run.sandbox.role), sql.Identifier(str(run.previewer.facts["owner"]))
    with connect(url, f"restore {run.request.restore_id}") as inside:
        inside.execute(sql.SQL("REASSIGN OWNED BY {} TO {}").format(role, owner))
        inside.execute(sql.SQL("DROP OWNED BY {}").format(role))
        inside.execute(sql.SQL("REVOKE ALL ON SCHEMA public FROM {}").format(role))
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(sql.Identifier(name), role))
    staging_database.drop_sandbox(connection, run.request.restore_id)


def _load_ours(run: _Run, reader: ArchiveReader, connect_to: Callable[[], Connection]) -> None:
    loader = ArchiveLoader(reader, connect_to, run.threads, run.meter)
    try:
        loaded = loader.load()
    finally:
        loader.close()
    run.rows.update(loaded.rows)
    run.warnings += loaded.warnings


def _load_foreign(run: _Run, connect_to: Callable[[], Connection]) -> None:
    with connect_to() as connection:
        loader = DumpLoader(connection, run.meter, sandboxed=run.sandbox is not None)
        _walk_foreign(run, loader)
        run.rows.update(loader.rows)
        run.warnings += loader.warnings
        run.meter.phase("verify")
        connection.execute("ANALYZE")
        for (schema, table), rows in loader.rows.items():
            if count_rows(connection, schema, table) not in (rows, None):
                raise RestoreError(
                    f"Table {schema}.{table} does not hold the rows that its backup has; nothing was changed."
                )


def _walk_foreign(run: _Run, loader: DumpLoader | None) -> None:
    request = run.request
    dumps: list[str] = []

    def on_document(entry: Document, content: Iterator[bytes]) -> None:
        if run.folder is None:
            drain(content)
        elif entry.kind == "folder":
            run.folder.add_folder(entry)
        elif entry.kind == "symlink":
            run.folder.add_link(entry)
        else:
            run.folder.add_parents(entry.path)
            run.folder.add_file(entry, content, None)
        run.meter.tick()

    def on_dump(name: str, text: Iterator[bytes]) -> None:
        dumps.append(name)
        if loader is None:
            drain(text)
        else:
            run.meter.phase("database", None)
            loader.load(text)

    run.meter.phase("documents", os.path.getsize(request.archive))
    with ForeignArchive(request.archive, limits_for(request), lambda size: run.meter.tick()) as archive:
        archive.walk(on_document, on_dump)
    if loader is not None and not dumps:
        raise RestoreError(
            "The archive holds no dump (database/NAME.sql.gz); restore its documents only, or choose another."
        )
    if run.folder is not None:
        run.folder.finish()


def _note_pairs(run: _Run, with_database: bool) -> None:
    """Write down which databases and folders are to be exchanged; known by oid and inode, they can't be mistaken."""
    request, pair, folders = run.request, None, None
    if with_database:
        live = str(run.previewer.facts["name"])
        staging = str(run.journal.staging_database)
        with maintenance(run.url, request.restore_id) as connection:
            oids = {
                row["name"]: int(row["oid"])
                for row in connection.execute(
                    "SELECT datname AS name, oid::bigint AS oid FROM pg_database WHERE datname = ANY(%s)", [[live, staging]]
                )
            }
        pair = DatabasePair(
            live, staging_database.derived_name(live, "before", request.restore_id), oids[staging], oids[live]
        )
    if run.folder is not None:
        live_folder = request.target.documents_dir.resolve()
        live_folder.mkdir(mode=0o700, exist_ok=True)
        folders = FolderPair(str(live_folder), str(run.folder.path), inode(run.folder.path), inode(live_folder))
    run.note(database=pair, folder=folders)


def restore_from_file(
    archive: Path,
    to_url: str,
    documents_dir: Path,
    signing_key: bytes,
    trusted: bool = False,
    progress: Progress | None = None,
    scope: str = "all",
) -> RestoreResult:
    """Given an archive and where it goes, restore it with neither Redis nor a metadata database at hand.

    The journal, and with it the way back, lies beside the documents folder. Raise EngineError as `restore` does.
    """
    documents_dir = documents_dir.resolve()
    state_dir = documents_dir.parent / f".{documents_dir.name}_restores"
    target = Source(to_url, documents_dir, "restore")
    recover(state_dir, target)
    request = RestoreRequest(archive, target, state_dir, signing_key, uuid4(), scope, trusted)
    return restore(request, progress)
