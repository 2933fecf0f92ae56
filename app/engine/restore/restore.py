"""One restore: checked, staged beside the live state, verified, swapped in. Until the swap, nothing live is touched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg

from ..errors import EngineError, RestoreBlocked, RestoreError
from ..progress import Meter, Progress
from ..source.names import readable
from ..source.postgres import one_line
from ..source.preflight import Source
from ..source.server_disk import watch
from ..system.memory import tune_malloc
from ..system.threads import threads_of_machine
from .in_place import restore_in_place
from .loading.check import begin_check
from .loading.sql_loader import Connection
from .places import journal as journals
from .places.journal import Journal
from .preview.preview import Previewer
from .preview.tables_diff import TableDiff
from .request import RestoreRequest, open_origin
from .run import RestoreRun
from .stage import stage
from .swap import clear_staging, commit_point, discard, recover, settle, surplus, swap_in

WAIT_SECONDS = 0.1


@dataclass(frozen=True)
class RestoreResult:
    """A restore that is live. `tables` hold the rows before and after; `gap_seconds`: how long the database was away.

    `code`: the functions, triggers, views … that an archive from elsewhere has brought, by the server's catalogue.
    """

    strategy: str
    undo_possible: bool
    tables: list[TableDiff]
    documents_before: int
    documents_after: int
    warnings: list[str]
    gap_seconds: float
    finished_at: datetime
    code: list[str] = field(default_factory=list)


def restore(
    request: RestoreRequest,
    progress: Progress | None = None,
    before_swap: Callable[[], None] | None = None,
) -> RestoreResult:
    """Given a request, restore it. Unless this returns, the live database and documents are what they were.

    `before_swap` is called when all is staged and verified; what it raises ends the restore, as does whatever `progress`
    raises before that. Raise RestoreBlocked for what the preview calls blockers, else EngineError.
    """
    tune_malloc()
    meter = Meter(progress, request.stall_seconds)
    origin = open_origin(request.archive, request.signing_key)
    journal = Journal(request.restore_id, journals.STAGING)
    run = RestoreRun(request, origin, meter, threads_of_machine(request.threads), journal, Previewer(request, origin))
    try:
        _prepare(run)
        if run.previewer.server_disk is not None and request.with_database:
            meter.watch = watch(run.previewer.server_disk, request.disk_reserve)
        return _restore(run, before_swap)
    except psycopg.Error as error:
        raise RestoreError(f"The database server failed during the restore: {one_line(error)}") from error
    except OSError as error:
        raise RestoreError(f"The disk failed during the restore: {error.strerror} ({error.filename}).") from error
    finally:
        origin.close()


def _prepare(run: RestoreRun) -> None:
    """Find out whether anything stands in the way, and check the archive as far as must be before anything is made."""
    request = run.request
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
    if run.origin.uses_index(request.trusted):
        assert run.origin.reader is not None
        begin_check(run.origin.reader, run.meter, request.with_database, request.with_documents)


def _restore(run: RestoreRun, before_swap: Callable[[], None] | None) -> RestoreResult:
    gap = 0.0
    in_place = run.request.with_database and run.previewer.strategy == "in_place"
    run.note()
    try:
        if in_place:
            stage(run, with_database=False)
            gap = _replace_in_place(run, before_swap)
        else:
            stage(run, with_database=run.request.with_database)
            run.meter.watch = None  # the load is over
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
        warnings=list(dict.fromkeys(run.warnings)),  # what the preview has said, the restore may have met
        gap_seconds=gap,
        finished_at=datetime.now(UTC),
        code=run.code,
    )


def _replace_in_place(run: RestoreRun, before_swap: Callable[[], None] | None) -> float:
    def before_commit(connection: Connection) -> None:
        if before_swap is not None:
            before_swap()
        run.journal = commit_point(connection, run.journal, run.request.state_dir, run.url)

    try:
        gap = restore_in_place(run.origin, run.url, run.request, run.meter, run.rows, run.warnings, before_commit)
    except BaseException:
        if run.journal.transaction is not None:
            with contextlib.suppress(EngineError, psycopg.Error):
                settle(run.journal, run.request.state_dir, run.url)
        raise
    settle(run.journal, run.request.state_dir, run.url)
    return gap


def _tables(run: RestoreRun) -> list[TableDiff]:
    facts = run.origin.reader.manifest.database.facts if run.origin.reader else run.previewer.facts
    encoding = str(facts.get("encoding", "UTF8"))
    rows = {(readable(schema, encoding), readable(name, encoding)): count for (schema, name), count in run.rows.items()}
    keys = sorted(run.tables_before.keys() | rows.keys())
    return [TableDiff(*key, run.tables_before.get(key), rows.get(key), approximate=True) for key in keys]


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
    result = restore(request, progress)
    for restore_id in surplus(state_dir, target):
        with contextlib.suppress(EngineError, psycopg.Error, OSError):  # tried again after the next restore
            discard(state_dir, restore_id, target)
    return result
