"""Make one backup."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar
from uuid import UUID

import psycopg
import structlog
from rq import get_current_job
from sqlalchemy.exc import OperationalError

from app import current, logs
from app.config import ConfigError, Settings
from app.engine.backup.backup import BackupRequest, make_backup
from app.engine.errors import EngineError
from app.jobs import aftermath
from app.jobs.heartbeat import Heartbeat
from app.jobs.log_ids import in_logs
from app.models import BackupHistory
from app.runs import ledger, locks, queue
from app.runs.schedule_locks import ScheduleLockLost, ScheduleLocks
from app.services.backups import backups
from app.services.backups.figures import figures
from app.services.installation import settings as stored
from app.services.installation.settings_watch import outdated_source
from app.services.installation.source import source_of, source_problem
from app.services.installation.storage import storage
from app.services.recovery import backup_recovery, restore_recovery
from app.services.schedules import slots

T = TypeVar("T")
Watch = Callable[[int, int | None], None]
Held = locks.Lock | ScheduleLocks
logger = structlog.get_logger(__name__)

# Publishing waits this long for a metadata database that restarts just now.
PATIENCE_SECONDS = 120.0
UNEXPECTED = "Something unexpected went wrong. The worker's log has the details: "
UNSETTLED = "A restore was cut short and could not be finished or undone yet, so nothing consistent can be saved: "


@in_logs("backup_id")
def run(backup_id: str) -> None:
    """Make a queued backup, and close its row. Do nothing if it is no longer queued.

    Raise unexpected errors, after the row is closed.
    """
    row_id = UUID(backup_id)
    with locks.holding(locks.run_name(row_id)) as alive:
        if alive is None:
            return
        try:
            restore_recovery.settle_before_reading()
        except (EngineError, psycopg.Error, OSError) as error:
            settings = current.settings()
            ledger.backups.fail_queued(row_id, settings.redact(f"{UNSETTLED}{error}"))
            aftermath.of_backup(row_id)
            return
        held = _take_locks(row_id)
        # Asked twice, since they may have been released before our row said that it waits.
        if not held and ledger.backups.wait_in_line(row_id):
            held = _take_locks(row_id)
        if not held:
            return
        try:
            claim_and_make(row_id, [alive, *held])
        finally:
            release(held)
    aftermath.of_backup(row_id)
    backup_recovery.enqueue_waiting()


def _take_locks(row_id: UUID) -> list[Held]:
    """Return the locks of the backup's schedules, the writers' lock and the source's, shared; or none of them if another
    backup or a restore is under way: whoever ends it, or the minute tick, puts us into the queue again."""
    scheduled = ScheduleLocks(queue.connection(), backup_id=row_id)
    if not scheduled.take(schedule.id for schedule in slots.schedules_of(row_id)):
        return []
    others = _take_common_locks(row_id)
    if not others:
        scheduled.release()
        return []
    return [scheduled, *others]


def _take_common_locks(row_id: UUID) -> list[Held]:
    writer = locks.acquire(locks.WRITER, owner=row_id)
    if writer is None:
        return []
    restore = ledger.restores.live()
    restoring = restore is not None and restore.status == "in_progress"
    source = locks.acquire(locks.SOURCE, shared=True, patience=0.0 if restoring else locks.BRIEFLY, owner=row_id)
    if source is None:
        writer.release()
        return []
    return [writer, source]


def release(held: Sequence[Held]) -> None:
    """Release locks."""
    for lock in held:
        lock.release()


def claim_and_make(row_id: UUID, held: Sequence[Held], watch: Watch | None = None) -> None:
    """Make a queued backup under the given locks, and close its row.

    `watch` gets (bytes done, bytes in total) with each heartbeat; ledger.Cancelled from it cancels the backup.
    Raise unexpected errors, after the row is closed.
    """
    job = get_current_job()
    attempt = ledger.backups.claim(row_id, (job.worker_name if job else None) or "worker")
    if attempt is None:
        return
    with logs.bound(backup_id=str(row_id), attempt=attempt):
        _make_claimed(backups.get(row_id), attempt, held, watch)


def _make_claimed(row: BackupHistory, attempt: int, held: Sequence[Held], watch: Watch | None) -> None:
    settings = current.settings()
    row_id = row.id
    logger.info("backup begins", kind=row.kind)
    try:
        source_problem(settings)
        _make(settings, row, attempt, held, watch)
    except ledger.Cancelled:
        ledger.backups.cancel_running(row_id, attempt)
        logger.info("backup cancelled")
    except ledger.Lost as error:
        logger.error("backup abandoned", reason=str(error))
    except (EngineError, ConfigError, locks.LockLost, ScheduleLockLost) as error:
        logger.error("backup failed", reason=str(error))
        ledger.backups.fail(row_id, attempt, settings.redact(str(error)))
    except Exception as error:
        ledger.backups.fail(row_id, attempt, settings.redact(f"{UNEXPECTED}{type(error).__name__}: {error}"))
        raise


def _make(settings: Settings, row: BackupHistory, attempt: int, held: Sequence[Held], watch: Watch | None) -> None:
    scheduled = [lock for lock in held if isinstance(lock, ScheduleLocks)]
    limits = stored.row()

    def beat(phase: str, bytes_done: int, bytes_total: int | None) -> None:
        for lock in scheduled:
            lock.check()
        ledger.backups.progress(row_id, attempt, phase, bytes_done, bytes_total)
        if watch is not None:
            watch(bytes_done, bytes_total)

    heartbeat = Heartbeat(beat)
    row_id, labels = row.id, _labels(row)

    def fence() -> None:
        for lock in held:
            lock.ensure()
        reason = outdated_source(settings)
        if reason:
            raise ConfigError([reason])
        ledger.backups.progress(row_id, attempt, "publish", *heartbeat.last[1:])

    request = BackupRequest(
        source=source_of(settings),
        storage_dir=storage().folder,
        signing_key=settings.signing_key,
        backup_id=row.id,
        kind=row.kind,
        attempt=attempt,
        labels=labels,
        disk_reserve=limits.disk_reserve_bytes,
        stall_seconds=limits.stall_minutes * 60.0,
    )
    # No transaction stays open for as long as a backup takes.
    backups.rest()
    result = make_backup(request, heartbeat, before_publish=lambda: patiently(fence))
    found = figures(result.filename, result.manifest, result.sha256, result.size_bytes)
    found["warnings"] = [settings.redact(text) for text in result.warnings]
    closed = patiently(lambda: ledger.backups.complete(row_id, attempt, **found, verified_at=result.verified_at))
    if not closed and backups.get(row_id).filename != result.filename:
        # Closed by somebody else between the fence and the rename: an archive without a row is nobody's.
        storage().delete(result.filename)
        raise ledger.Lost("The backup's row was closed while its archive was being published.")
    logger.info("backup completed", filename=result.filename, size_bytes=result.size_bytes, warnings=len(result.warnings))


def _labels(row: BackupHistory) -> dict[str, str]:
    labels = {
        "note": row.note,
        "schedule_id": str(row.schedule_id) if row.schedule_id else None,
        "scheduled_for": row.scheduled_for.isoformat() if row.scheduled_for else None,
    }
    filled = slots.of_backup(row.id)
    if filled:
        labels["slots"] = " ".join(f"{slot.schedule_id}@{slot.scheduled_for.isoformat()}" for slot in filled)
    return {name: value for name, value in labels.items() if value}


def patiently(do: Callable[[], T]) -> T:
    """Run work that needs the metadata database, waiting while it restarts. Raise what the work raises."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return do()
        except (OperationalError, psycopg.OperationalError):
            if time.monotonic() > until:
                raise
            time.sleep(1)
