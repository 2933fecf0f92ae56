"""What the minute tick, a starting worker and a worker whose work horse died repair: runs whose worker is gone, jobs that
Redis lost, files that nobody writes any more.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import select

from app import current
from app.config import Settings
from app.engine.archive.reader import open_stored
from app.engine.errors import ArchiveError
from app.engine.storage.partial_file import Partial
from app.engine.system.processes import kill_orphans
from app.engine.verify.verify import verify_archive
from app.extensions import db
from app.models import BackupHistory, utcnow
from app.models.backup_history import LIVE
from app.runs import ledger, locks, queue, verification_steps
from app.services.backups import upload_check
from app.services.history import retention_plan
from app.services.history.figures import figures
from app.services.installation.storage import storage

logger = structlog.get_logger(__name__)

# No heartbeat for this long, and the worker's lock is free: it is gone. A restarted database frees locks of the living.
SILENT = timedelta(seconds=15)
# No heartbeat for this long: whoever holds the lock hangs, and publishes nothing any more.
HUNG = timedelta(seconds=180)
# A job may be on its way between the queue and its row for a moment.
IN_TRANSIT = timedelta(seconds=20)
# Another installation may share the folder: its unknown files are left alone while they grow.
FOREIGN_PARTIAL_SECONDS = 900.0
LOST = "The worker was lost while it made this backup (killed, or its machine went down). Start the backup again."


def reconcile() -> None:
    """Repair interrupted runs, unless another process is already doing so. Raise redis.RedisError if Redis is down."""
    with locks.holding(locks.RECONCILE) as lock:
        if lock is None:
            return
        close_lost_runs()
        remove_stray_partials()
        enqueue_forgotten()


def close_lost_runs() -> None:
    """Close the running backups whose worker is gone."""
    for row in ledger.backups.silent_since(SILENT):
        if _waits_for_check(row):
            continue
        silent_for = utcnow() - (row.heartbeat_at or row.created_at)
        hung = silent_for >= HUNG
        if hung or _lock_is_free(row.id):
            close_lost_run(row.id, row.attempt)
        if hung:
            locks.evict(row.id)


def recover(backup_id: UUID) -> None:
    """Close a backup whose worker process was seen to die, and start the next one in line."""
    row = db.session.get(BackupHistory, backup_id, populate_existing=True)
    if row is not None and row.status == "in_progress" and not _waits_for_check(row):
        close_lost_run(backup_id, row.attempt)
    enqueue_waiting()
    upload_check.enqueue_next()


def close_lost_run(backup_id: UUID, attempt: int) -> None:
    """End what the dead worker of a running backup left behind, and close its row: completed if its archive had been
    published and is whole, cancelled if that was requested, failed otherwise."""
    settings = current.settings()
    kill_orphans(backup_id)
    row = db.session.get(BackupHistory, backup_id, populate_existing=True)
    if row is None or row.status != "in_progress" or row.attempt != attempt:
        return
    if row.kind == "uploaded":
        if upload_check.close_lost(row):
            logger.error("lost check closed", backup_id=str(backup_id), attempt=attempt)
            retention_plan.refresh()
        return
    if _complete_published(settings, row):
        closed = True
    elif row.cancel_requested_at is not None:
        closed = ledger.backups.cancel_running(backup_id, attempt)
    else:
        closed = ledger.backups.fail(backup_id, attempt, LOST)
    if closed:
        logger.error("lost run closed", backup_id=str(backup_id), attempt=attempt)
        storage().remove_partials(backup_id)
        retention_plan.refresh()


def remove_stray_partials() -> None:
    """Remove the partial files of backups that are closed, and those of nobody that have stopped growing."""
    for partial in storage().partials():
        row = db.session.get(BackupHistory, partial.backup_id, populate_existing=True)
        if _is_abandoned(partial) if row is None else row.status not in LIVE:
            logger.warning("partial file removed", path=partial.path.name)
            storage().remove_partials(partial.backup_id)


def enqueue_forgotten() -> None:
    """Put the queued backups, and the verifications, that Redis does not know of into the queue again."""
    before = utcnow() - IN_TRANSIT
    rows = db.session.scalars(select(BackupHistory).where(BackupHistory.status == "queued")).all()
    for row in rows:
        recent = (row.enqueued_at or row.created_at) > before
        if not recent and row.phase != ledger.WAITING and not queue.knows(queue.BACKUPS, ledger.backups.job_id(row.id)):
            _enqueue_backup(row.id)
    enqueue_waiting()
    upload_check.enqueue_forgotten(before)
    asked = select(BackupHistory).where(BackupHistory.verify_requested_at < before, BackupHistory.status == "completed")
    for row in db.session.scalars(asked).all():
        if not queue.knows(queue.BACKUPS, verification_steps.job_id(row.id)):
            queue.enqueue(queue.BACKUPS, queue.VERIFY_JOB, row.id, verification_steps.job_id(row.id))


def enqueue_waiting() -> None:
    """Put what waits for another run to finish into the queue again, if none runs now: a restore, else the oldest backup."""
    # The check of an upload holds up nobody.
    made_now = (BackupHistory.status == "in_progress", BackupHistory.kind != "uploaded")
    running = db.session.scalar(select(BackupHistory.id).where(*made_now).limit(1))
    restore = ledger.restores.live()
    if restore is not None and restore.status == "in_progress":
        return
    if restore is not None and restore.phase == ledger.WAITING and running is None:
        job_id = ledger.restores.job_id(restore.id)
        if not queue.knows(queue.BACKUPS, job_id):
            queue.enqueue(queue.BACKUPS, queue.RESTORE_JOB, restore.id, job_id, first=True)
            ledger.restores.mark_enqueued(restore.id)
        return
    waiting = select(BackupHistory).where(BackupHistory.status == "queued", BackupHistory.phase == ledger.WAITING)
    row = db.session.scalar(waiting.order_by(BackupHistory.created_at).limit(1))
    if running is None and row is not None and not queue.knows(queue.BACKUPS, ledger.backups.job_id(row.id)):
        _enqueue_backup(row.id)


def _enqueue_backup(backup_id: UUID) -> None:
    queue.enqueue(queue.BACKUPS, queue.BACKUP_JOB, backup_id, ledger.backups.job_id(backup_id))
    ledger.backups.mark_enqueued(backup_id)


def _complete_published(settings: Settings, row: BackupHistory) -> bool:
    """Close a lost run as completed if its archive was published and verifies. Return whether it was."""
    filename = _published(settings, row)
    if filename is None:
        return False
    report = verify_archive(storage().local_path(filename), settings.signing_key)
    if not report.ok or not report.signed or report.manifest is None:
        logger.error("published archive does not verify", path=filename, problems=report.problems)
        return False
    found = figures(filename, report.manifest, report.sha256, report.size_bytes)
    return ledger.backups.complete(row.id, row.attempt, **found, verified_at=utcnow())


def _published(settings: Settings, row: BackupHistory) -> str | None:
    if row.started_at is None:
        return None
    for filename in storage().archives(settings.app_name):
        try:
            found = storage().stat(filename)
            if found is None or found.mtime_ns / 1e9 < row.started_at.timestamp() - 1:
                continue
            with open_stored(storage(), filename, settings.signing_key) as reader:
                backup_id = reader.manifest.backup_id
        except (OSError, ArchiveError):
            continue
        if backup_id == row.id:
            return filename
    return None


def _waits_for_check(row: BackupHistory) -> bool:
    return row.kind == "uploaded" and row.worker is None


def _lock_is_free(backup_id: UUID) -> bool:
    with locks.holding(locks.run_name(backup_id)) as lock:
        return lock is not None


def _is_abandoned(partial: Partial) -> bool:
    """Return whether nobody writes a partial file that has no row: an upload holds its lock."""
    return partial.idle_seconds() > FOREIGN_PARTIAL_SECONDS and _lock_is_free(partial.backup_id)
