"""Restore one backup: the safety backup first, then the engine, then the row."""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import structlog
from rq import get_current_job
from sqlalchemy.exc import OperationalError

from app import current, logs
from app.config import ConfigError
from app.engine.archive.reader import read_manifest
from app.engine.errors import EngineError
from app.engine.restore import restore as restoring
from app.engine.restore.preview.tables_diff import TableDiff
from app.engine.restore.restore import RestoreResult
from app.errors import DomainError
from app.extensions import db
from app.jobs.backup import UNEXPECTED, claim_and_make, patiently
from app.jobs.heartbeat import Heartbeat
from app.jobs.log_ids import in_logs
from app.models import Restore
from app.runs import ledger, locks, restore_steps
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.backups import backups
from app.services.installation.source import source_problem
from app.services.recovery import backup_recovery, restore_recovery
from app.services.restores import restore_engine, restores

logger = structlog.get_logger(__name__)

SAFETY = "safety_backup"
READ_BYTES = 4 * 1024 * 1024
OVERRIDE = "Mend that, or restore without a safety backup if there is nothing left to lose."
JOB = Actor.system("restore job")
# The rows of each table (schema, name).
Counts = dict[tuple[str, str], int]


class NotBegun(Exception):
    """Something is missing that a restore begins with. str() is the sentence for the row."""


@in_logs("restore_id")
def run(restore_id: str) -> None:
    """Run a queued restore, and close its row. Do nothing if it is no longer queued.

    Raise unexpected errors, after the row is closed.
    """
    row_id = UUID(restore_id)
    with locks.holding(locks.restore_name(row_id)) as alive:
        if alive is None:
            return
        source = locks.acquire(locks.SOURCE, patience=locks.BRIEFLY)
        # Asked twice, since it may have been released before our row said that it waits.
        if source is None and ledger.restores.wait_in_line(row_id):
            source = locks.acquire(locks.SOURCE)
        if source is None:
            return
        try:
            job = get_current_job()
            attempt = ledger.restores.claim(row_id, (job.worker_name if job else None) or "worker")
            if attempt is not None:
                _Run(restores.get(row_id), attempt, [alive, source]).run()
        finally:
            source.release()
    backup_recovery.enqueue_waiting()


class _Run:
    """One attempt. From `swapping` on nothing we do may stop the engine, and only its journal knows how it ended."""

    def __init__(self, row: Restore, attempt: int, held: list[locks.Lock]) -> None:
        self.id, self.attempt, self.held = row.id, attempt, held
        self.backup_id, self.scope, self.with_safety = row.backup_id, row.scope, row.safety_backup
        self.settings = current.settings()
        self.heartbeat = Heartbeat(self._write)
        self.swapping = False
        self.counted: Counts | None = None

    def run(self) -> None:
        with logs.bound(restore_id=str(self.id), attempt=self.attempt):
            self._run()

    def _run(self) -> None:
        logger.info("restore begins", scope=self.scope, backup=str(self.backup_id))
        try:
            self._restore()
        except ledger.Cancelled:
            ledger.restores.cancel_running(self.id, self.attempt)
            logger.info("restore cancelled")
        except ledger.Lost as error:
            logger.error("restore abandoned", reason=str(error))
        except (
            EngineError,
            ConfigError,
            DomainError,
            locks.LockLost,
            NotBegun,
        ) as error:
            self._failed(str(error))
        except Exception as error:
            self._failed(f"{UNEXPECTED}{type(error).__name__}: {error}")
            raise

    def _restore(self) -> None:
        source_problem(self.settings)
        # A swap that was cut earlier is ended before anything is built on it.
        restore_recovery.settle()
        backup = backups.get(self.backup_id) if self.backup_id else None
        if backup is None:
            raise NotBegun("The backup to restore was deleted meanwhile. Nothing was changed.")
        with locks.holding(locks.archive_name(backup.id), shared=True) as reading:
            archive = backups.archive_file(backup.id)
            if reading is None:
                raise NotBegun(f"{archive.filename} is being deleted just now. Nothing was changed.")
            if backup.trusted_at is not None:
                self._check_trusted(archive.path, archive.sha256)
            if self.with_safety:
                self._make_safety_backup(archive.filename)
            began = time.monotonic()
            request = restore_engine.request(backups.get(backup.id), archive.path, self.scope, self.id)
            db.session.remove()
            result = restoring.restore(request, self.heartbeat, before_swap=lambda: patiently(self._fence))
            self._complete(result, time.monotonic() - began, archive.size_bytes)

    def _write(self, phase: str, bytes_done: int, bytes_total: int | None) -> None:
        try:
            ledger.restores.progress(self.id, self.attempt, phase, bytes_done, bytes_total)
        except (ledger.Lost, ledger.Cancelled, OperationalError):
            if not self.swapping:
                raise
            logger.exception("progress not written during the swap")

    def _fence(self) -> None:
        for lock in self.held:
            lock.ensure()
        restore_steps.begin_swap(self.id, self.attempt)
        self.swapping = True

    def _make_safety_backup(self, filename: str) -> None:
        safety = ledger.backups.open(JOB.name, kind="safety", note=f"Before the restore of {filename}")
        db.session.flush()
        restore_steps.link_safety_backup(self.id, self.attempt, safety.id)
        db.session.commit()
        safety_id = safety.id
        with locks.holding(locks.run_name(safety_id)) as alive:
            if alive is not None:
                claim_and_make(safety_id, [*self.held, alive], watch=self._watch_safety)
        made = backups.get(safety_id)
        if made.status == "completed":
            manifest = read_manifest(backups.archive_file(safety_id).path, self.settings.signing_key)
            self.counted = {(table.schema, table.name): table.rows for table in manifest.database.readable_tables}
            return
        ledger.restores.progress(self.id, self.attempt, SAFETY, 0, None)
        reason = made.error or f"It is {made.status}."
        raise NotBegun(f"The safety backup was not made, so nothing was restored: {reason} {OVERRIDE}")

    def _watch_safety(self, bytes_done: int, bytes_total: int | None) -> None:
        try:
            ledger.restores.progress(self.id, self.attempt, SAFETY, bytes_done, bytes_total)
        except ledger.Lost as error:
            raise ledger.Cancelled(str(error)) from error

    def _check_trusted(self, path: Path, sha256: str) -> None:
        digest, done, total = hashlib.sha256(), 0, path.stat().st_size
        with path.open("rb", buffering=0) as file:
            while chunk := file.read(READ_BYTES):
                digest.update(chunk)
                done += len(chunk)
                self.heartbeat("check", done, total)
        if digest.hexdigest() != sha256:
            raise NotBegun(f"{path.name} is not the file that an admin trusted: its SHA-256 differs. Nothing was changed.")

    def _complete(self, result: RestoreResult, seconds: float, archive_bytes: int) -> None:
        values = {
            "result": _figures(result, self.counted) | {"restore_seconds": seconds, "archive_bytes": archive_bytes},
            "warnings": [self.settings.redact(text) for text in result.warnings],
            "finished_at": result.finished_at,
            "undo_until": restore_recovery.undo_until() if result.undo_possible else None,
        }
        closed = patiently(lambda: ledger.restores.complete(self.id, self.attempt, **values))
        if not closed:
            logger.error("the restore's row was closed while its swap was made")
            restore_recovery.settle()
        if not result.undo_possible:
            restore_recovery.drop_kept(self.id)
        restore_recovery.expire()
        logger.info("restore completed", seconds=round(seconds, 1))
        _note("restore.completed", self.id)

    def _failed(self, reason: str) -> None:
        reason = self.settings.redact(reason)
        logger.error("restore failed", reason=reason)
        if self.swapping:
            self._ask_the_journal(reason)
        else:
            ledger.restores.fail(self.id, self.attempt, reason)
        _note("restore.failed", self.id)

    def _ask_the_journal(self, reason: str) -> None:
        """The engine failed after the swap had begun: finish or undo it, then say which. Where the server is away, the row
        stays open, and the tick goes on trying."""
        try:
            restore_recovery.settle(frozenset([self.id]), reason)
        except (EngineError, psycopg.Error, OSError) as error:
            logger.error("the swap could not be ended yet", reason=self.settings.redact(str(error)))


def _note(action: str, restore_id: UUID) -> None:
    audit.record(JOB, action, "restore", restore_id)
    db.session.commit()


def _figures(result: RestoreResult, counted: Counts | None) -> dict[str, Any]:
    """Return a result as JSON, with the rows that the safety backup counted (None: there is none)."""
    figures = asdict(result)
    for name in ("tables", "warnings", "finished_at"):
        del figures[name]
    return figures | {"tables": [_table(table, counted) for table in result.tables]}


def _table(table: TableDiff, counted: Counts | None) -> dict[str, Any]:
    """The rows before are what the safety backup has counted, else the server's estimate, marked as approximate."""
    rows_before = (counted or {}).get((table.schema, table.name), table.rows_now)
    was_not_there = counted is not None and rows_before is None
    exact = was_not_there or (table.schema, table.name) in (counted or {})
    names = {"schema": table.schema, "name": table.name}
    return names | {"rows_before": rows_before, "rows_after": table.rows_backup, "approximate": not exact}
