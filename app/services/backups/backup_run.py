"""One backup, from its turn to its closed row. The job makes the queued ones, and a restore its safety backup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import structlog

from app import current, logs
from app.config import ConfigError, Settings
from app.engine.backup.backup import BackupRequest, make_backup
from app.engine.errors import EngineError
from app.models import BackupHistory
from app.runs import ledger, locks, queue, retry
from app.runs.heartbeat import Heartbeat
from app.runs.schedule_locks import ScheduleLockLost, ScheduleLocks
from app.services import settings_row
from app.services.backups import backups
from app.services.history.figures import figures
from app.services.installation.settings_watch import outdated_source
from app.services.installation.source import source_of, source_problem
from app.services.installation.storage import storage
from app.services.schedules import due_slots

Watch = Callable[[int, int | None], None]
Held = locks.Lock | ScheduleLocks
logger = structlog.get_logger(__name__)


@contextmanager
def turn(row_id: UUID) -> Iterator[Sequence[Held]]:
    """Hold the locks under which a queued backup is made: those of its schedules, the writer's, and the source's, shared.

    The block gets none of them while another backup or a restore is in progress. The row then says that it waits, and the
    end of that run, or the minute tick, enqueues it again.
    """
    held = _take_locks(row_id)
    # Tried again, since they may have been released before our row said that it waits.
    if not held and ledger.backups.wait_in_line(row_id):
        held = _take_locks(row_id)
    try:
        yield held
    finally:
        for lock in held:
            lock.release()


def _take_locks(row_id: UUID) -> list[Held]:
    scheduled = ScheduleLocks(queue.connection(), backup_id=row_id)
    if not scheduled.take(schedule.id for schedule in due_slots.schedules_of(row_id)):
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


def claim_and_make(row_id: UUID, held: Sequence[Held], watch: Watch | None = None) -> None:
    """Claim a queued backup, make it under locks that are held already, and close its row. Do nothing if it is not queued.

    `watch` is called with (bytes done, bytes in total) at each heartbeat, and may raise ledger.Cancelled to cancel the
    backup. Raise unexpected errors after the row is closed.
    """
    attempt = ledger.backups.claim(row_id, queue.current_worker())
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
        ledger.backups.fail(row_id, attempt, settings.redact(ledger.unexpected(error)))
        raise


def _make(settings: Settings, row: BackupHistory, attempt: int, held: Sequence[Held], watch: Watch | None) -> None:
    scheduled = [lock for lock in held if isinstance(lock, ScheduleLocks)]
    limits = settings_row.row()

    def write(phase: str, bytes_done: int, bytes_total: int | None) -> None:
        for lock in scheduled:
            lock.check()
        ledger.backups.progress(row_id, attempt, phase, bytes_done, bytes_total)
        if watch is not None:
            watch(bytes_done, bytes_total)

    heartbeat = Heartbeat(write)
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
    result = make_backup(request, heartbeat.beat, before_publish=lambda: retry.while_database_restarts(fence))
    found = figures(result.filename, result.manifest, result.sha256, result.size_bytes)
    found |= {"warnings": [settings.redact(text) for text in result.warnings], "verified_at": result.verified_at}
    closed = retry.while_database_restarts(lambda: ledger.backups.complete(row_id, attempt, **found))
    if not closed and backups.get(row_id).filename != result.filename:
        # Somebody else closed the row between the fence and the rename: nobody would ever list this archive.
        storage().delete(result.filename)
        raise ledger.Lost("The backup's row was closed while its archive was being published.")
    logger.info("backup completed", filename=result.filename, size_bytes=result.size_bytes, warnings=len(result.warnings))


def _labels(row: BackupHistory) -> dict[str, str]:
    """Return what the manifest says of the backup's row, so that a rescan can restore it."""
    labels = {
        "note": row.note,
        "schedule_id": str(row.schedule_id) if row.schedule_id else None,
        "scheduled_for": row.scheduled_for.isoformat() if row.scheduled_for else None,
    }
    filled = due_slots.of_backup(row.id)
    if filled:
        labels["slots"] = " ".join(f"{slot.schedule_id}@{slot.scheduled_for.isoformat()}" for slot in filled)
    return {name: value for name, value in labels.items() if value}
