"""What the minute tick, a starting worker and a worker whose work horse died repair of restores: interrupted swaps, rows
whose worker is gone, states that are kept beyond their time. The journals of the engine are the truth; the rows follow them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import psycopg
import structlog
from sqlalchemy import select

from app import current
from app.engine.errors import EngineError
from app.engine.restore import recovery, swap
from app.engine.restore.places.journal import KEPT, Journal
from app.engine.restore.recovery import Recovered
from app.engine.restore.swap import survey_journals
from app.extensions import db
from app.models import BackupHistory, Restore, utcnow
from app.runs import ledger, locks, queue, restore_steps
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.installation import restore_engine, settings
from app.services.recovery import backup_recovery

logger = structlog.get_logger(__name__)

LOST = "The worker was lost during this restore (killed, or its machine went down). Nothing was changed. Start it again."
LOST_FINISHED = "The worker was lost after the swap had begun; the swap was finished afterwards."
NOT_WHOLE = (
    "The worker and the database server were lost during the swap, and what had been restored was not whole afterwards "
    "({}). The state before the restore is live. Start the restore again."
)
VOID = "The worker was lost during the swap, which could be neither finished nor undone: {} `flask doctor` says what to do."
CHANGED_SINCE = (
    "What is live differs from what was restored ({}). It has been in use since the swap; if that does not explain it, undo "
    "the restore and start it again."
)
# A killed worker's connections end at once, but the server needs a moment to see it.
LOCK_PATIENCE_SECONDS = 10.0
RECOVERY = Actor.system("recovery")


def reconcile(thorough: bool = False) -> None:
    """Repair interrupted restores and drop kept states that have expired. `thorough`: read every journal, even if none
    seems to need it. Raise redis.RedisError if Redis is down."""
    lost = frozenset(row.id for row in ledger.restores.silent_since(backup_recovery.SILENT) if _worker_is_gone(row.id))
    if lost or _swap_was_interrupted() or _expired() or _surplus() or (thorough and _journals_there()):
        with locks.holding(locks.SOURCE) as lock:
            if lock is not None:
                _settle_or_log(lost)
                expire()
    _enqueue_forgotten()


def recover(restore_id: UUID) -> None:
    """Find out how a restore ended whose worker process was seen to die, and start the next run in line."""
    with locks.holding(locks.SOURCE, patience=LOCK_PATIENCE_SECONDS) as lock:
        if lock is not None:
            _settle_or_log(frozenset([restore_id]))
    backup_recovery.enqueue_waiting()


def settle_before_reading() -> None:
    """Finish or undo an interrupted swap before the source is read. Raise EngineError if that can't be done."""
    if _swap_was_interrupted():
        with locks.holding(locks.SOURCE) as lock:
            if lock is not None:
                settle()


def settle(lost: frozenset[UUID] = frozenset(), reason: str = LOST) -> None:
    """Finish or undo each interrupted restore, and make the rows say what is true. `lost`: the running restores whose worker
    is gone; `reason`: why.

    The caller holds the source's lock exclusively, so no restore is under way. Raise EngineError or psycopg.Error if the
    server can't be reached; no row is changed then.
    """
    folder, target = restore_engine.state_dir(), restore_engine.target()
    ended = {found.restore_id: found for found in recovery.recover(folder, target)}
    for found in ended.values():
        logger.error("cut restore ended", restore_id=str(found.restore_id), outcome=found.outcome, detail=found.detail)
    survey = survey_journals(folder, target)
    for problem in survey.problems:
        logger.error("a restore's journal can't be used", reason=current.settings().redact(problem))
    journals = {journal.restore_id: journal for journal in survey.journals}
    # Of a swap that was finished the worker may yet say so itself, but nobody else knows what was found missing.
    noteworthy = {found.restore_id for found in ended.values() if found.loss or found.changes or found.outcome == "void"}
    for restore_id in lost | noteworthy:
        _close_lost(restore_id, journals.get(restore_id), reason, ended.get(restore_id))
    for journal in journals.values():
        _follow(journal)
    if survey.present is not None and folder.is_dir():
        _note_missing(survey.present)


def expire() -> None:
    """Drop the kept states whose time to undo is over, and the oldest where there are too many. The caller holds the
    source's lock exclusively."""
    for restore_id in dict.fromkeys([*_expired(), *_surplus()]):
        drop_kept(restore_id)


def drop_kept(restore_id: UUID) -> bool:
    """Drop the state that a restore keeps. Return False if that fails; the next tick tries again."""
    try:
        left = swap.discard(restore_engine.state_dir(), restore_id, restore_engine.target())
    except (EngineError, psycopg.Error, OSError) as error:
        reason = current.settings().redact(str(error))
        logger.error("the state before a restore could not be dropped", restore_id=str(restore_id), reason=reason)
        return False
    if left:
        logger.error("documents from before a restore have to be removed by hand", restore_id=str(restore_id), left=left)
    restore_steps.record_discarded(restore_id)
    audit.record(RECOVERY, "restore.discarded", "restore", restore_id, {"left": left} if left else None)
    db.session.commit()
    return True


def undo_until() -> datetime:
    """Return until when a state that is exchanged now is kept."""
    return utcnow() + timedelta(hours=settings.undo_hours())


def _settle_or_log(lost: frozenset[UUID]) -> None:
    try:
        settle(lost)
    except (EngineError, psycopg.Error, OSError) as error:
        db.session.rollback()
        reason = current.settings().redact(str(error))
        logger.error("a cut restore could not be ended yet", reason=reason)


def _close_lost(restore_id: UUID, journal: Journal | None, reason: str, ended: Recovered | None = None) -> None:
    """Close the row of a running restore whose worker was lost. `ended`: how it has just been finished or undone."""
    row = db.session.get(Restore, restore_id, populate_existing=True)
    if row is None or row.status != "in_progress":
        return
    _close_safety_backup(row)
    if journal is not None and journal.wanted == "new":
        changes = [CHANGED_SINCE.format(ended.changes)] if ended is not None and ended.changes else []
        warnings = [*row.warnings, LOST_FINISHED, *changes]
        ledger.restores.complete(row.id, row.attempt, warnings=warnings, finished_at=utcnow(), undo_until=undo_until())
    elif row.cancel_requested_at is not None:
        ledger.restores.cancel_running(row.id, row.attempt)
    else:
        ledger.restores.fail(row.id, row.attempt, _reason(ended) or reason)
    logger.error("lost restore closed", restore_id=str(restore_id))


def _reason(ended: Recovered | None) -> str:
    if ended is None or ended.outcome == "completed":
        return ""
    if ended.outcome == "void":
        return VOID.format(ended.detail)
    return NOT_WHOLE.format(ended.loss) if ended.loss else ""


def _close_safety_backup(row: Restore) -> None:
    if row.safety_backup_id is None or ledger.backups.cancel_queued(row.safety_backup_id):
        return
    safety = db.session.get(BackupHistory, row.safety_backup_id, populate_existing=True)
    if safety is not None and safety.status == "in_progress":
        backup_recovery.close_lost_run(safety.id, safety.attempt)


def _follow(journal: Journal) -> None:
    """Make a restore's row say which state is live, by the journal of its finished swap. Add the row if there is none."""
    undone = journal.wanted == "old"
    row = db.session.get(Restore, journal.restore_id, populate_existing=True)
    if row is None:
        _adopt(journal, undone)
    elif row.status == "completed":
        if (row.undone_at is not None) is not undone:
            restore_steps.record_live_state(row.id, undone)
    elif row.status in ("failed", "cancelled"):
        if undone:
            drop_kept(row.id)
        else:
            warnings = [*row.warnings, LOST_FINISHED]
            restore_steps.complete_after_all(row.id, warnings=warnings, undo_until=undo_until())


def _adopt(journal: Journal, undone: bool) -> None:
    """List the restore of a journal that no row knows, as after the loss of the metadata database, so that it can be undone
    and what it keeps is dropped in time."""
    now = utcnow()
    scope = "all" if journal.database and journal.folder else "database" if journal.database else "documents"
    row = Restore(
        id=journal.restore_id, scope=scope, status="completed", requested_by="recovery", finished_at=now, started_at=now
    )
    row.undo_until, row.undone_at = undo_until(), now if undone else None
    row.warnings = ["The history did not know this restore; it was found again by its journal."]
    db.session.add(row)
    audit.record(RECOVERY, "restore.found", "restore", row.id)
    db.session.commit()


def _note_missing(kept: frozenset[UUID]) -> None:
    """Record that restores whose state is no longer kept can't be undone."""
    listed = select(Restore.id).where(
        Restore.status == "completed", Restore.discarded_at.is_(None), Restore.undo_until.is_not(None)
    )
    for restore_id in db.session.scalars(listed).all():
        if restore_id not in kept:
            restore_steps.record_discarded(restore_id)


def _enqueue_forgotten() -> None:
    """Put the queued restore that Redis does not know of into the queue again."""
    row = ledger.restores.live()
    if row is None or row.status != "queued" or row.phase == ledger.WAITING:
        return
    job_id = ledger.restores.job_id(row.id)
    recent = (row.enqueued_at or row.created_at) > utcnow() - backup_recovery.IN_TRANSIT
    if not recent and not queue.knows(queue.BACKUPS, job_id):
        queue.enqueue(queue.BACKUPS, queue.RESTORE_JOB, row.id, job_id, first=True)
        ledger.restores.mark_enqueued(row.id)


def _expired() -> list[UUID]:
    over = select(Restore.id).where(
        Restore.status == "completed", Restore.discarded_at.is_(None), Restore.undo_until < utcnow()
    )
    return list(db.session.scalars(over))


def _surplus() -> list[UUID]:
    try:
        return swap.surplus(restore_engine.state_dir(), restore_engine.target())
    except EngineError:
        return []


def _swap_was_interrupted() -> bool:
    """Return whether a restore is under way or was interrupted. A journal that can't be used is reported and does not
    count: nothing can be done about it here, and it must not stop everything else for ever."""
    try:
        survey = survey_journals(restore_engine.state_dir(), restore_engine.target())
    except EngineError:
        return True
    return any(journal.step != KEPT for journal in survey.journals)


def _journals_there() -> bool:
    return any(restore_engine.state_dir().glob("*.json"))


def _worker_is_gone(restore_id: UUID) -> bool:
    with locks.holding(locks.restore_name(restore_id)) as lock:
        return lock is not None
