"""Make one backup."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import psycopg
import structlog
from flask import current_app
from rq import get_current_job
from sqlalchemy.exc import OperationalError

from app import engine, ledger, ledger_restores, locks
from app.config import ConfigError, Settings
from app.jobs.heartbeat import Heartbeat
from app.models import BackupHistory
from app.services import backups, restores
from app.services.figures import figures
from app.services.source import source_problem

T = TypeVar("T")
Watch = Callable[[int, int | None], None]
logger = structlog.get_logger(__name__)

# Publishing waits this long for a metadata database that restarts just now.
PATIENCE_SECONDS = 120.0
UNEXPECTED = "Something unexpected went wrong. The worker's log has the details: "
UNSETTLED = "A restore was cut short and could not be finished or undone yet, so nothing consistent can be saved: "


def run(backup_id: str) -> None:
    """Given a queued backup's id, make it, and close its row. Does nothing if it is no longer queued.

    Raise what nobody expected, after the row is closed.
    """
    row_id = UUID(backup_id)
    with locks.holding(locks.run_name(row_id)) as alive:
        if alive is None:
            return
        try:
            restores.settle_before_reading()
        except (engine.EngineError, psycopg.Error, OSError) as error:
            settings: Settings = current_app.config["SETTINGS"]
            ledger.fail_queued(row_id, settings.redact(f"{UNSETTLED}{error}"))
            return
        held = _take_locks()
        # Asked twice, since they may have been released before our row said that it waits.
        if not held and ledger.wait_in_line(row_id):
            held = _take_locks()
        if not held:
            return
        try:
            claim_and_make(row_id, [alive, *held])
        finally:
            release(held)
    backups.enqueue_waiting()


def _take_locks() -> list[locks.Lock]:
    """Return the writers' lock and the source's, shared; or none of them if another backup or a restore is under way:
    whoever ends it puts us into the queue again."""
    writer = locks.acquire(locks.WRITER)
    if writer is None:
        return []
    restore = ledger_restores.live()
    restoring = restore is not None and restore.status == "in_progress"
    source = locks.acquire(locks.SOURCE, shared=True, patience=0.0 if restoring else locks.BRIEFLY)
    if source is None:
        writer.release()
        return []
    return [writer, source]


def release(held: list[locks.Lock]) -> None:
    """Given locks, give them back."""
    for lock in held:
        lock.release()


def claim_and_make(row_id: UUID, held: list[locks.Lock], watch: Watch | None = None) -> None:
    """Given a queued backup and the locks under which it is made, make it and close its row.

    `watch` is told (bytes done, bytes in total) with each heartbeat; ledger.Cancelled from it cancels the backup.
    Raise what nobody expected, after the row is closed.
    """
    job = get_current_job()
    attempt = ledger.claim(row_id, (job.worker_name if job else None) or "worker")
    if attempt is None:
        return
    structlog.contextvars.bind_contextvars(backup_id=str(row_id), attempt=attempt)
    row = backups.get(row_id)
    settings: Settings = current_app.config["SETTINGS"]
    try:
        source_problem(settings)
        _make(settings, row, attempt, held, watch)
    except ledger.Cancelled:
        ledger.cancel_running(row_id, attempt)
    except ledger.Lost as error:
        logger.error("backup abandoned", reason=str(error))
    except (engine.EngineError, ConfigError, locks.LockLost) as error:
        logger.error("backup failed", reason=str(error))
        ledger.fail(row_id, attempt, settings.redact(str(error)))
    except Exception as error:
        ledger.fail(row_id, attempt, settings.redact(f"{UNEXPECTED}{type(error).__name__}: {error}"))
        raise


def _make(settings: Settings, row: BackupHistory, attempt: int, held: list[locks.Lock], watch: Watch | None) -> None:
    def beat(phase: str, bytes_done: int, bytes_total: int | None) -> None:
        ledger.progress(row.id, attempt, phase, bytes_done, bytes_total)
        if watch is not None:
            watch(bytes_done, bytes_total)

    heartbeat = Heartbeat(beat)

    def fence() -> None:
        for lock in held:
            lock.ensure()
        ledger.progress(row.id, attempt, "publish", *heartbeat.last[1:])

    request = engine.BackupRequest(
        source=backups.source(settings),
        storage_dir=settings.storage_dir,
        signing_key=settings.signing_key,
        backup_id=row.id,
        kind=row.kind,
        attempt=attempt,
        labels=_labels(row),
    )
    result = engine.make_backup(request, heartbeat, before_publish=lambda: patiently(fence))
    found = figures(result.path, result.manifest, result.sha256, result.size_bytes)
    found["warnings"] = list(result.warnings)
    closed = patiently(lambda: ledger.complete(row.id, attempt, **found, verified_at=result.verified_at))
    if not closed and backups.get(row.id).filename != result.filename:
        # Closed by somebody else between the fence and the rename: an archive without a row is nobody's.
        result.path.unlink(missing_ok=True)
        raise ledger.Lost("The backup's row was closed while its archive was being published.")


def _labels(row: BackupHistory) -> dict[str, str]:
    labels = {
        "note": row.note,
        "schedule_id": str(row.schedule_id) if row.schedule_id else None,
        "scheduled_for": row.scheduled_for.isoformat() if row.scheduled_for else None,
    }
    return {name: value for name, value in labels.items() if value}


def patiently(do: Callable[[], T]) -> T:
    """Given what needs the metadata database, do it, waiting for one that restarts just now. Raise what it raises."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return do()
        except (OperationalError, psycopg.OperationalError):
            if time.monotonic() > until:
                raise
            time.sleep(1)
