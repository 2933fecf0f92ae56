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

from app import engine, ledger, locks
from app.config import ConfigError, Settings
from app.jobs.heartbeat import Heartbeat
from app.models import BackupHistory
from app.services import backups
from app.services.figures import figures
from app.services.source import source_problem

T = TypeVar("T")
logger = structlog.get_logger(__name__)

# Publishing waits this long for a metadata database that restarts just now.
PATIENCE_SECONDS = 120.0
UNEXPECTED = "Something unexpected went wrong. The worker's log has the details: "


def run(backup_id: str) -> None:
    """Given a queued backup's id, make it, and close its row. Does nothing if it is no longer queued.

    Raise what nobody expected, after the row is closed.
    """
    row_id = UUID(backup_id)
    with locks.holding(locks.run_name(row_id)) as alive:
        if alive is None:
            return
        writer = _wait_in_line(row_id)
        if writer is None:
            return
        try:
            _claim_and_make(row_id, [alive, writer])
        finally:
            writer.release()
    backups.enqueue_waiting()


def _wait_in_line(row_id: UUID) -> locks.Lock | None:
    """Return the writers' lock, or None if another backup holds it: whoever releases it puts us into the queue again.
    Asked twice, since it may have been released before our row said that it waits."""
    writer = locks.acquire(locks.WRITER)
    if writer is None and ledger.wait_in_line(row_id):
        writer = locks.acquire(locks.WRITER)
    return writer


def _claim_and_make(row_id: UUID, held: list[locks.Lock]) -> None:
    job = get_current_job()
    attempt = ledger.claim(row_id, (job.worker_name if job else None) or "worker")
    if attempt is None:
        return
    structlog.contextvars.bind_contextvars(backup_id=str(row_id), attempt=attempt)
    row = backups.get(row_id)
    settings: Settings = current_app.config["SETTINGS"]
    try:
        source_problem(settings)
        _make(settings, row, attempt, held)
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


def _make(settings: Settings, row: BackupHistory, attempt: int, held: list[locks.Lock]) -> None:
    heartbeat = Heartbeat(lambda *progress: ledger.progress(row.id, attempt, *progress))

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
    result = engine.make_backup(request, heartbeat, before_publish=lambda: _patiently(fence))
    found = figures(result.path, result.manifest, result.sha256, result.size_bytes)
    found["warnings"] = list(result.warnings)
    closed = _patiently(lambda: ledger.complete(row.id, attempt, **found, verified_at=result.verified_at))
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


def _patiently(do: Callable[[], T]) -> T:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return do()
        except (OperationalError, psycopg.OperationalError):
            if time.monotonic() > until:
                raise
            time.sleep(1)
