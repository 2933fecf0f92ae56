"""Staging: the new database and the new folder beside the live ones, filled, counted, and known by oid and inode."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, LiteralString

import psycopg

from ..archive.reader import ArchiveReader
from ..errors import RestoreError
from ..source.documents import Document, shown
from ..source.postgres import connect
from ..storage.local import sync_folder
from .dumpable import check_dumpable
from .foreign_archive import ForeignArchive, drain
from .loading.check import check_dump
from .loading.load_foreign import DumpLoader, count_rows
from .loading.load_ours import ArchiveLoader
from .loading.sandbox_watch import SandboxWatch, budget_for
from .loading.sql_loader import CANCEL_SECONDS, Connection
from .loading.staged_code import check_nothing_hidden, staged_code
from .places import sandbox, staging_database
from .places.contents import FolderContents, flush_wal, looking_at, record_database
from .places.database_settings import apply_settings
from .places.exchange import inode, live_oid
from .places.journal import DatabasePair, FolderPair
from .places.load_role import LoadRole, load_role
from .places.places import places
from .places.staging_database import maintenance
from .places.staging_database import with_database as url_of
from .places.staging_folder import DocumentsStager, StagingFolder, Trust
from .preview.preview import limits_for
from .run import RestoreRun

WAIT_SECONDS = 0.1
_PREPARED: LiteralString = "SELECT FROM pg_prepared_xacts WHERE database = current_database()"


def stage(run: RestoreRun, with_database: bool) -> None:
    """Build the staging database and folder, checked and counted."""
    request = run.request
    if request.with_documents:
        path = places(request.target, request.restore_id).other_folder
        run.note(staging_folder=str(path))
        run.folder = StagingFolder(path, Trust.SIGNED if run.origin.signed else Trust.FOREIGN)
        run.note(staging_inode=run.folder.identity)
    if run.origin.uses_index(request.trusted):
        assert run.origin.reader is not None
        with _documents_beside(run, run.origin.reader) as documents_done:
            if request.with_database:
                check_dump(run.origin.reader, run.meter)
            if with_database:
                with _staging_database(run) as role:
                    _load_ours(run, run.origin.reader, role)
            documents_done()
    elif with_database:
        with _staging_database(run) as role:
            _load_foreign(run, role.connect)
    else:
        _walk_foreign(run, None)
    if run.folder is not None:
        run.documents_after = run.folder.files
        run.warnings += run.folder.warnings.all()
    _note_pairs(run, with_database)


@contextlib.contextmanager
def _documents_beside(run: RestoreRun, reader: ArchiveReader) -> Iterator[Callable[[], None]]:
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
def _staging_database(run: RestoreRun) -> Iterator[LoadRole]:
    """Create the staging database, yield how to connect to it, and afterwards hand it to its owner."""
    request = run.request
    name = places(request.target, request.restore_id).staging_name
    ours = run.origin.may_run_as_us(request.trusted)
    reader = run.origin.reader
    facts = reader.manifest.database.facts if reader is not None and ours else run.previewer.facts
    assert run.previewer.rights is not None
    run.note(staging_database=name, sandbox=not ours or run.previewer.rights.superuser)
    with maintenance(run.url, request.restore_id) as connection:
        owner = _owner(run, connection, facts)
        run.warnings += staging_database.create(connection, name, facts, owner, run.previewer.facts)
        run.note(staging_oid=live_oid(connection, name))
        if run.origin.uses_index(request.trusted):
            with load_role(connection, run.url, name, owner, request.restore_id) as role:
                yield role
            run.warnings += role.warnings
        elif ours:
            yield LoadRole(lambda: connect(url_of(run.url, name), f"restore {request.restore_id}"), None, [])
        else:
            with _sandbox(run, connection, name) as role:
                yield role
        run.warnings += apply_settings(connection, name, facts)
        with connect(url_of(run.url, name), f"restore {request.restore_id}") as inside:
            run.warnings += staging_database.disable_subscriptions(inside, name)
        # A crash of the server in between, which may have lost commits of the load, has ended this connection.
        flush_wal(connection)
    run.meter.phase("verify")
    run.warnings += check_dumpable(
        request.target, name, request.restore_id, run.meter, not run.origin.uses_index(request.trusted)
    )


def _owner(run: RestoreRun, connection: Connection, facts: dict[str, Any]) -> str:
    """Return who is to own the staging database: the backup's owner if we may give it to them, else the live one's."""
    wanted, live = str(facts["owner"]), str(run.previewer.facts["owner"])
    row = connection.execute(
        "SELECT pg_has_role(current_user, oid, 'MEMBER') AS may FROM pg_roles WHERE rolname = %s", [wanted]
    ).fetchone()
    return wanted if row and row["may"] else live


@contextlib.contextmanager
def _sandbox(run: RestoreRun, connection: Connection, name: str) -> Iterator[LoadRole]:
    """Yield a way into a staging database for a throwaway role; afterwards look at what it made there, and hand that to the
    live database's owner, who is no superuser. `connection` is a maintenance connection."""
    run_id, url = run.request.restore_id, url_of(run.url, name)
    run.sandbox = made = staging_database.create_sandbox(connection, run_id)
    with connect(url, f"restore {run_id}") as inside:
        sandbox.open_to(connection, inside, name, run.sandbox)
    sandbox_url = url_of(run.url, name, run.sandbox.role, run.sandbox.password)
    sandbox.set_limits(connection, run.sandbox, budget_for(run.previewer.survey.bytes, 0).size_bytes)

    def let_in() -> Connection:
        session = connect(sandbox_url, f"restore {run_id}")
        sandbox.shut_out(connection, made)
        return session

    yield LoadRole(let_in, None, [])
    sandbox.end_sessions(connection, run.sandbox.role)
    with connect(url, f"restore {run_id}") as inside:
        if inside.execute(_PREPARED).fetchone() is not None:
            raise RestoreError("The dump leaves a prepared transaction, which no pg_dump does; it was refused.")
        code = staged_code(inside, run.sandbox.role, run.encoding, run.previewer.survey.code)
        check_nothing_hidden(code)
        run.code = code.lines
        owner = str(run.previewer.facts["owner"])
        run.warnings += sandbox.hand_over(connection, inside, run.sandbox, name, owner)
    staging_database.drop_sandbox(connection, run_id)


def _load_ours(run: RestoreRun, reader: ArchiveReader, role: LoadRole) -> None:
    loader = ArchiveLoader(reader, role.connect, run.threads, run.meter, role.superuser)
    try:
        loaded = loader.load()
    finally:
        loader.close()
    run.rows.update(loaded.rows)
    run.warnings += loaded.warnings


def _load_foreign(run: RestoreRun, connect_to: Callable[[], Connection]) -> None:
    with connect_to() as connection, _watching(run) as watch:
        loader = DumpLoader(connection, run.meter, watch)
        _walk_foreign(run, loader)
        run.rows.update(loader.rows)
        run.warnings += loader.warnings
        run.encoding = loader.encoding
        run.meter.phase("verify")
        try:
            _analyze_and_count(run, connection, watch)
        except psycopg.Error as error:
            if watch is not None and watch.reason:
                raise RestoreError(watch.reason) from error
            raise


def _analyze_and_count(run: RestoreRun, connection: Connection, watch: SandboxWatch | None) -> None:
    cancel = watch.end if watch is not None else partial(connection.cancel_safe, timeout=CANCEL_SECONDS)
    run.meter.during(partial(connection.execute, "ANALYZE"), cancel)
    for (schema, table), rows in run.rows.items():
        if watch is not None:
            watch.moved()
        if run.meter.during(partial(count_rows, connection, schema, table), cancel) not in (rows, None):
            raise RestoreError(
                f"Table {shown(f'{schema}.{table}')} does not hold the rows that its backup has; nothing was changed."
            )


@contextlib.contextmanager
def _watching(run: RestoreRun) -> Iterator[SandboxWatch | None]:
    """While an untrusted dump is loaded, watch over it."""
    if run.sandbox is None:
        yield None
        return
    request, role = run.request, run.sandbox.role
    budget = budget_for(run.previewer.survey.bytes, request.stall_seconds)
    with contextlib.ExitStack() as connections:

        def connect_to() -> Connection:
            return connections.enter_context(maintenance(run.url, request.restore_id))

        with SandboxWatch(connect_to, role, str(run.journal.staging_database), budget) as watch:
            yield watch


def _walk_foreign(run: RestoreRun, loader: DumpLoader | None) -> None:
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


def _note_pairs(run: RestoreRun, with_database: bool) -> None:
    """Write down which databases and folders are to be exchanged; known by oid and inode, they can't be mistaken. And what
    the new ones hold, for whoever has to finish the exchange after a crash."""
    request, pair, folders = run.request, None, None
    contents, files = None, None
    where = places(request.target, request.restore_id)
    if with_database:
        live, staging = where.live_name, where.staging_name
        with maintenance(run.url, request.restore_id) as connection:
            old_oid, new_oid = live_oid(connection, live), live_oid(connection, staging)
        if old_oid is None or new_oid is None:
            raise RestoreError(f"The database {staging if old_oid else live} is not there any more; nothing was changed.")
        pair = DatabasePair(live, where.kept_name, new_oid, old_oid)
        with looking_at(url_of(run.url, staging), request.restore_id) as inside:
            contents = record_database(inside, run.rows)
    if run.folder is not None:
        if not where.live_folder.exists():
            where.live_folder.mkdir(mode=0o700)
            sync_folder(where.live_folder.parent)
        identity = run.folder.identity
        folders = FolderPair(str(where.live_folder), str(run.folder.path), identity, inode(where.live_folder))
        files = FolderContents(run.folder.files, run.folder.bytes)
    run.note(database=pair, folder=folders, database_contents=contents, folder_contents=files)
