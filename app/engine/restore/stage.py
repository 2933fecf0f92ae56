"""Staging: the new database and the new folder beside the live ones, filled, counted, and known by oid and inode."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, LiteralString

import psycopg

from ..archive.reader import ArchiveReader
from ..errors import RestoreError
from ..source.documents import Document, shown
from ..source.postgres import CANCEL_SECONDS, Connection, connect
from ..storage.local import sync_folder
from ..system.threads import threads_of_machine
from .dumpable import check_dumpable
from .foreign_archive import ForeignArchive, drain
from .loading.check import check_dump
from .loading.load_foreign import DumpLoader, count_rows
from .loading.load_ours import ArchiveLoader
from .loading.sandbox_watch import SandboxWatch, budget_for
from .loading.staged_code import check_nothing_hidden, staged_code
from .places import sandbox, staging_database
from .places.contents import FolderContents, flush_wal, looking_at, record_database
from .places.database_settings import apply_settings
from .places.derived_names import places
from .places.exchange import inode, live_oid
from .places.journal import DatabasePair, FolderPair
from .places.load_role import LoadRole, load_role
from .places.staging_database import Sandbox, maintenance
from .places.staging_database import with_database as url_of
from .places.staging_folder import DocumentsStager, StagingFolder, Trust
from .preview.preview import limits_for
from .run import RestoreRun

WAIT_SECONDS = 0.1
_PREPARED: LiteralString = "SELECT FROM pg_prepared_xacts WHERE database = current_database()"


@dataclass(frozen=True)
class StagedDatabase:
    """What was loaded: rows by (schema, table), named as in the dump, and the code that an untrusted dump has brought."""

    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    code: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Staged:
    """What lies beside the live state now. `documents` is how many files."""

    rows: dict[tuple[str, str], int]
    code: list[str]
    documents: int


def stage(run: RestoreRun, with_database: bool) -> Staged:
    """Build the staging database and folder, checked and counted."""
    request, reader = run.request, run.origin.reader
    folder = _staging_folder(run) if request.with_documents else None
    database = StagedDatabase()
    if reader is not None and run.origin.uses_index(request.trusted):
        with _documents_beside(run, reader, folder) as documents_done:
            if request.with_database:
                check_dump(reader, run.meter)
            if with_database:
                database = _stage_database(run, partial(_load_ours, run, reader))
            documents_done()
    elif with_database:
        database = _stage_database(run, partial(_load_foreign, run, folder))
    else:
        _walk_foreign(run, folder, None)
    if folder is not None:
        run.warnings += folder.warnings.all()
    _note_pairs(run, database.rows if with_database else None, folder)
    return Staged(database.rows, database.code, folder.files if folder is not None else 0)


def _staging_folder(run: RestoreRun) -> StagingFolder:
    path = places(run.request.target, run.request.restore_id).other_folder
    run.note(staging_folder=str(path))
    folder = StagingFolder(path, Trust.SIGNED if run.origin.signed else Trust.FOREIGN)
    run.note(staging_inode=folder.identity)
    return folder


@contextlib.contextmanager
def _documents_beside(run: RestoreRun, reader: ArchiveReader, folder: StagingFolder | None) -> Iterator[Callable[[], None]]:
    """Unpack the documents in threads while the block works on the database. Yield a function that waits for them."""
    if folder is None:
        yield lambda: None
        return
    counts: list[int] = []
    stager = DocumentsStager(reader, folder, threads_of_machine(run.request.threads), counts.append)

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


@dataclass(frozen=True)
class _Loaded:
    """What was loaded. `encoding` is that of the names in an untrusted dump."""

    rows: dict[tuple[str, str], int]
    encoding: str = ""


def _stage_database(run: RestoreRun, load: Callable[[LoadRole], _Loaded]) -> StagedDatabase:
    """Create the staging database, load it, and hand it to its owner."""
    request, reader, live = run.request, run.origin.reader, run.findings.live
    name = places(request.target, request.restore_id).staging_name
    ours = run.origin.may_run_as_us(request.trusted)
    facts = reader.manifest.database.facts if reader is not None and ours else live.facts
    run.note(staging_database=name, sandbox=not ours or live.rights.superuser)
    with maintenance(run.url, request.restore_id) as connection:
        owner = _owner(connection, facts, live.facts)
        run.warnings += staging_database.create(connection, name, facts, owner, live.facts)
        run.note(staging_oid=live_oid(connection, name))
        if run.origin.uses_index(request.trusted):
            with load_role(connection, run.url, name, owner, request.restore_id) as role:
                staged = StagedDatabase(load(role).rows)
            run.warnings += role.warnings
        elif ours:
            staged = StagedDatabase(load(LoadRole(lambda: connect(url_of(run.url, name), run.application))).rows)
        else:
            staged = _stage_in_sandbox(run, connection, name, load)
        run.warnings += apply_settings(connection, name, facts)
        with connect(url_of(run.url, name), run.application) as inside:
            run.warnings += staging_database.disable_subscriptions(inside, name)
        # A crash of the server in between, which may have lost commits of the load, has ended this connection.
        flush_wal(connection)
    run.meter.phase("verify")
    run.warnings += check_dumpable(
        request.target, name, request.restore_id, run.meter, not run.origin.uses_index(request.trusted)
    )
    return staged


def _owner(connection: Connection, facts: dict[str, Any], live_facts: dict[str, Any]) -> str:
    """Return who is to own the staging database: the backup's owner if we may give it to them, else the live one's."""
    wanted, live = str(facts["owner"]), str(live_facts["owner"])
    row = connection.execute(
        "SELECT pg_has_role(current_user, oid, 'MEMBER') AS may FROM pg_roles WHERE rolname = %s", [wanted]
    ).fetchone()
    return wanted if row and row["may"] else live


def _stage_in_sandbox(
    run: RestoreRun, connection: Connection, name: str, load: Callable[[LoadRole], _Loaded]
) -> StagedDatabase:
    """Load a staging database as a temporary role, check what that role made there, and hand it to the live database's
    owner, who is no superuser. `connection` is a maintenance connection."""
    url, survey = url_of(run.url, name), run.findings.dump
    made = staging_database.create_sandbox(connection, run.request.restore_id)
    with connect(url, run.application) as inside:
        sandbox.open_to(connection, inside, name, made)
    sandbox_url = url_of(run.url, name, made.role, made.password)
    sandbox.set_limits(connection, made, budget_for(survey.bytes, 0).size_bytes)

    def let_in() -> Connection:
        session = connect(sandbox_url, run.application)
        sandbox.shut_out(connection, made)
        return session

    loaded = load(LoadRole(let_in, sandbox=made))
    sandbox.end_sessions(connection, made.role)
    with connect(url, run.application) as inside:
        if inside.execute(_PREPARED).fetchone() is not None:
            raise RestoreError("The dump leaves a prepared transaction, which no pg_dump does; it was refused.")
        code = staged_code(inside, made.role, loaded.encoding, survey.code)
        check_nothing_hidden(code)
        run.warnings += sandbox.hand_over(connection, inside, made, name, str(run.findings.live.facts["owner"]))
    staging_database.drop_sandbox(connection, run.request.restore_id)
    return StagedDatabase(loaded.rows, code.lines)


def _load_ours(run: RestoreRun, reader: ArchiveReader, role: LoadRole) -> _Loaded:
    threads = threads_of_machine(run.request.threads)
    loader = ArchiveLoader(reader, role.connect, threads, run.meter, role.superuser)
    try:
        loaded = loader.load()
    finally:
        loader.close()
    run.warnings += loaded.warnings
    return _Loaded(loaded.rows)


def _load_foreign(run: RestoreRun, folder: StagingFolder | None, role: LoadRole) -> _Loaded:
    with role.connect() as connection, _watching(run, role.sandbox) as watch:
        loader = DumpLoader(connection, run.meter, watch)
        _walk_foreign(run, folder, loader)
        run.warnings += loader.warnings
        run.meter.phase("verify")
        try:
            _analyze_and_count(run, connection, loader.rows, watch)
        except psycopg.Error as error:
            if watch is not None and watch.reason:
                raise RestoreError(watch.reason) from error
            raise
    return _Loaded(loader.rows, loader.encoding)


def _analyze_and_count(
    run: RestoreRun, connection: Connection, expected: dict[tuple[str, str], int], watch: SandboxWatch | None
) -> None:
    cancel = watch.end if watch is not None else partial(connection.cancel_safe, timeout=CANCEL_SECONDS)
    run.meter.during(partial(connection.execute, "ANALYZE"), cancel)
    for (schema, table), rows in expected.items():
        if watch is not None:
            watch.moved()
        if run.meter.during(partial(count_rows, connection, schema, table), cancel) not in (rows, None):
            raise RestoreError(
                f"Table {shown(f'{schema}.{table}')} does not hold the rows that its backup has; nothing was changed."
            )


@contextlib.contextmanager
def _watching(run: RestoreRun, sandbox: Sandbox | None) -> Iterator[SandboxWatch | None]:
    """Watch over an untrusted dump while it is loaded; yield None for a trusted one."""
    if sandbox is None:
        yield None
        return
    request = run.request
    budget = budget_for(run.findings.dump.bytes, request.stall_seconds)
    with contextlib.ExitStack() as connections:

        def connect_to() -> Connection:
            return connections.enter_context(maintenance(run.url, request.restore_id))

        with SandboxWatch(connect_to, sandbox.role, str(run.journal.staging_database), budget) as watch:
            yield watch


def _walk_foreign(run: RestoreRun, folder: StagingFolder | None, loader: DumpLoader | None) -> None:
    """Walk through an archive in its own order: documents go to the folder, the dump to the loader."""
    request = run.request
    dumps: list[str] = []

    def on_document(entry: Document, content: Iterator[bytes]) -> None:
        if folder is None:
            drain(content)
        elif entry.kind == "folder":
            folder.add_folder(entry)
        elif entry.kind == "symlink":
            folder.add_link(entry)
        else:
            folder.add_file(entry, content, None)
        run.meter.tick()

    def on_dump(name: str, text: Iterator[bytes]) -> None:
        dumps.append(name)
        if loader is None:
            drain(text)
        else:
            run.meter.phase("database", None)
            loader.load(text)

    run.meter.phase("documents", os.path.getsize(request.archive))
    with ForeignArchive(request.archive, limits_for(request), lambda _size: run.meter.tick()) as archive:
        archive.walk(on_document, on_dump)
    if loader is not None and not dumps:
        raise RestoreError(
            "The archive holds no dump (database/NAME.sql.gz); restore its documents only, or choose another."
        )
    if folder is not None:
        folder.finish()


def _note_pairs(run: RestoreRun, rows: dict[tuple[str, str], int] | None, folder: StagingFolder | None) -> None:
    """Note which databases and folders are to be swapped, by oid and inode, and what the new ones hold: after a crash the
    swap is finished or undone by this. `rows` is None if no database was staged."""
    request, pair, folders = run.request, None, None
    contents, files = None, None
    where = places(request.target, request.restore_id)
    if rows is not None:
        live, staging = where.live_name, where.staging_name
        with maintenance(run.url, request.restore_id) as connection:
            old_oid, new_oid = live_oid(connection, live), live_oid(connection, staging)
        if old_oid is None or new_oid is None:
            raise RestoreError(f"The database {staging if old_oid else live} is not there any more; nothing was changed.")
        pair = DatabasePair(live, where.kept_name, new_oid, old_oid)
        with looking_at(url_of(run.url, staging), request.restore_id) as inside:
            contents = record_database(inside, rows)
    if folder is not None:
        if not where.live_folder.exists():
            where.live_folder.mkdir(mode=0o700)
            sync_folder(where.live_folder.parent)
        identity = folder.identity
        folders = FolderPair(str(where.live_folder), str(folder.path), identity, inode(where.live_folder))
        files = FolderContents(folder.files, folder.bytes)
    run.note(database=pair, folder=folders, database_contents=contents, folder_contents=files)
