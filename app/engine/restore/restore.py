"""One restore: checked, staged beside the live state, verified, swapped in. Until the swap, nothing live is touched."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg

from ..errors import EngineError, RestoreBlocked, RestoreError
from ..progress import Meter, Progress
from ..source.names import readable
from ..source.postgres import Connection, one_line
from ..source.preflight import Source
from ..source.server_disk import watch
from ..system.memory import tune_malloc
from .in_place import restore_in_place
from .loading.check import begin_check
from .places import journal as journals
from .places.journal import Journal
from .preview.findings import Findings
from .preview.preview import Previewer
from .preview.tables_diff import TableDiff
from .recovery import recover
from .request import Origin, RestoreRequest, open_origin
from .run import RestoreRun
from .stage import stage
from .swap import clear_staging, commit_point, discard, settle, surplus, swap_in


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
    """Restore an archive. Unless this returns, the live database and documents are what they were.

    `before_swap` is called when all is staged and verified; what it raises ends the restore, as does whatever `progress`
    raises before that. Raise RestoreBlocked for what the preview calls blockers, else EngineError.
    """
    tune_malloc()
    meter = Meter(progress, request.stall_seconds)
    origin = open_origin(request.archive, request.signing_key)
    try:
        findings = _prepare(request, origin, meter)
        run = RestoreRun(request, origin, findings, meter, Journal(request.restore_id, journals.STAGING))
        run.warnings += findings.preview.warnings
        if request.with_database and (disk := findings.live.disk) is not None:
            meter.watch = watch(disk, request.disk_reserve)
        return _restore(run, before_swap)
    except psycopg.Error as error:
        raise RestoreError(f"The database server failed during the restore: {one_line(error)}") from error
    except OSError as error:
        raise RestoreError(f"The disk failed during the restore: {error.strerror} ({error.filename}).") from error
    finally:
        origin.close()


def _prepare(request: RestoreRequest, origin: Origin, meter: Meter) -> Findings:
    """Look for blockers, and check the archive as far as must be before anything is made. Raise RestoreBlocked."""
    meter.phase("prepare")
    # An untrusted archive is surveyed to its last byte before anything is made: what is cut or refused never gets further.
    findings = Previewer(request, origin, meter).find(exact=not origin.uses_index(request.trusted))
    if findings.preview.blockers:
        raise RestoreBlocked(findings.preview.blockers)
    if origin.uses_index(request.trusted):
        assert origin.reader is not None
        begin_check(origin.reader, meter, request.with_database, request.with_documents)
    return findings


def _restore(run: RestoreRun, before_swap: Callable[[], None] | None) -> RestoreResult:
    preview = run.findings.preview
    in_place = run.request.with_database and preview.strategy == "in_place"
    run.note()
    try:
        staged = stage(run, with_database=run.request.with_database and not in_place)
        rows = staged.rows
        if in_place:
            rows, gap = _replace_in_place(run, before_swap)
        else:
            run.meter.watch = None  # the load is over
            run.meter.phase("swap")
            if before_swap is not None:
                before_swap()
            gap = swap_in(run.journal, run.request.state_dir, run.url, run.meter)
    except BaseException:
        # If the server is away, `recover` does it later.
        with contextlib.suppress(EngineError, psycopg.Error, OSError):
            journal = journals.read(run.journal.path(run.request.state_dir))
            if journal.step == journals.STAGING:
                clear_staging(journal, run.request.state_dir, run.url)
        raise
    return RestoreResult(
        strategy="in_place" if in_place else "swap",
        undo_possible=not in_place,
        tables=_tables(run, rows),
        documents_before=preview.documents.files_now if preview.documents else 0,
        documents_after=staged.documents,
        warnings=list(dict.fromkeys(run.warnings)),  # what the preview has said, the restore may have met
        gap_seconds=gap,
        finished_at=datetime.now(UTC),
        code=staged.code,
    )


def _replace_in_place(run: RestoreRun, before_swap: Callable[[], None] | None) -> tuple[dict[tuple[str, str], int], float]:
    """Replace the live database's contents; return the rows by table, and for how many seconds tables were locked."""

    def before_commit(connection: Connection) -> None:
        if before_swap is not None:
            before_swap()
        run.journal = commit_point(connection, run.journal, run.request.state_dir, run.url)

    try:
        replaced = restore_in_place(run.request, run.origin, run.meter, before_commit)
    except BaseException:
        if run.journal.transaction is not None:
            with contextlib.suppress(EngineError, psycopg.Error):
                settle(run.journal, run.request.state_dir, run.url)
        raise
    run.warnings += replaced.warnings
    settle(run.journal, run.request.state_dir, run.url)
    return replaced.rows, replaced.seconds


def _tables(run: RestoreRun, rows: Mapping[tuple[str, str], int]) -> list[TableDiff]:
    """Compare the tables' rows before and after."""
    reader, server = run.origin.reader, run.findings.server
    facts = reader.manifest.database.facts if reader else server.facts if server else {}
    encoding = str(facts.get("encoding", "UTF8"))
    before = {(table.schema, table.name): table.rows_now for table in run.findings.preview.tables}
    before = {key: count for key, count in before.items() if count is not None}
    after = {(readable(schema, encoding), readable(name, encoding)): count for (schema, name), count in rows.items()}
    return [
        TableDiff(*key, before.get(key), after.get(key), approximate=True) for key in sorted(before.keys() | after.keys())
    ]


@dataclass(frozen=True)
class FileRestore:
    """An archive and where it goes: a database by its libpq URL, and a documents folder. `scope`, `trusted`: as in
    RestoreRequest."""

    archive: Path
    database_url: str
    documents_dir: Path
    signing_key: bytes
    scope: str = "all"
    trusted: bool = False


def restore_from_file(order: FileRestore, progress: Progress | None = None) -> RestoreResult:
    """Restore an archive with neither Redis nor a metadata database at hand.

    The journal, and with it the way back, lies beside the documents folder. Raise EngineError as `restore` does.
    """
    documents_dir = order.documents_dir.resolve()
    state_dir = documents_dir.parent / f".{documents_dir.name}_restores"
    target = Source(order.database_url, documents_dir, "restore")
    recover(state_dir, target)
    request = RestoreRequest(
        order.archive, target, state_dir, order.signing_key, uuid4(), scope=order.scope, trusted=order.trusted
    )
    result = restore(request, progress)
    for restore_id in surplus(state_dir, target):
        with contextlib.suppress(EngineError, psycopg.Error, OSError):  # tried again after the next restore
            discard(state_dir, restore_id, target)
    return result
