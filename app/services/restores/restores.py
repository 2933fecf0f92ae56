"""The rules for starting, cancelling and undoing restores."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select

from app import current
from app.config import ConfigError
from app.engine.errors import EngineError
from app.engine.restore import swap
from app.errors import Conflict, InvalidInput, NotFound, Unavailable
from app.extensions import db
from app.models import BackupHistory, Restore, utcnow
from app.models.restores import SCOPES
from app.runs import ledger, locks, queue, restore_steps
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.backups import backups
from app.services.backups.progress import ProgressView
from app.services.backups.progress import of_restore as progress
from app.services.installation import restore_engine
from app.services.installation.restore_engine import database_name
from app.services.installation.source import source_problem
from app.services.people import reauthentication
from app.services.recovery.restore_recovery import undo_until
from app.services.restores.restore_preview import RestorePreview, busy, check_scope, preview, running_backup

__all__ = [
    "SCOPES",
    "TRUST_WORDS",
    "ProgressView",
    "Restore",
    "RestorePreview",
    "busy",
    "cancel",
    "database_name",
    "get",
    "preview",
    "progress",
    "start",
    "status",
    "trust",
    "undo",
    "undo_problem",
]

TRUST_WORDS = "I trust this archive"
UNDO_RUNNING = "A backup or a restore is running. Try again when it has finished."


def get(restore_id: UUID) -> Restore:
    """Read a restore afresh from the database. Raise NotFound."""
    row = db.session.get(Restore, restore_id, populate_existing=True)
    if row is None:
        raise NotFound("There is no such restore.")
    return row


def status() -> Restore | None:
    """Return the queued or running restore, otherwise the last one, or None if there never was one."""
    newest = select(Restore).order_by(Restore.created_at.desc(), Restore.id.desc()).limit(1)
    return ledger.restores.live() or db.session.scalar(newest.execution_options(populate_existing=True))


def start(  # noqa: PLR0913, PLR0917 - a form's answers
    actor: Actor,
    backup_id: UUID,
    confirm: str,
    scope: str = "all",
    safety_backup: bool = True,
    password: str | None = None,
) -> Restore:
    """Queue the restore of a completed backup and return its row. `confirm` is the typed name of the database.

    An admin with a session gives the password again. `safety_backup` False is the override: no safety backup is made.
    Raise NotFound; InvalidInput for what was typed; Throttled; Conflict with `blockers`, or the `id` of what runs;
    Unavailable.
    """
    _check_typed(actor, confirm, scope, password)
    found = preview(backup_id, scope)
    if found.diff.blockers:
        blockers = [current.settings().redact(text) for text in found.diff.blockers]
        raise Conflict(" ".join(blockers), blockers=blockers)
    try:
        source_problem(current.settings())
    except ConfigError as error:
        raise Conflict(str(error), blockers=error.problems) from error
    locks.in_transaction(locks.START)
    _check_nothing_runs()
    row = ledger.restores.open(actor.name, backup_id=backup_id, scope=scope, safety_backup=safety_backup)
    detail = {"backup_id": str(backup_id), "filename": found.backup.filename, "scope": scope}
    audit.record(actor, "restore.started", "restore", row.id, detail)
    if not safety_backup:
        audit.record(actor, "restore.without_safety_backup", "restore", row.id, detail)
    db.session.commit()
    try:
        queue.enqueue(queue.BACKUPS, queue.RESTORE_JOB, row.id, ledger.restores.job_id(row.id), first=True)
    except queue.QueueUnavailable as error:
        ledger.restores.fail_queued(row.id, str(error))
        raise Unavailable(str(error), id=str(row.id)) from error
    ledger.restores.mark_enqueued(row.id)
    return get(row.id)


def _check_typed(actor: Actor, confirm: str, scope: str, password: str | None) -> None:
    check_scope(scope)
    if confirm != database_name():
        raise InvalidInput({"confirm": f"Type the name of the database that will be replaced: {database_name()}"})
    reauthentication.require(actor, password)


def _check_nothing_runs() -> None:
    restore = ledger.restores.live()
    backup = running_backup()
    if restore is not None:
        row_id, word = restore.id, "queued" if restore.status == "queued" else "running"
        db.session.rollback()
        raise Conflict(f"A restore is already {word}. Wait until it has finished, or cancel it.", id=str(row_id))
    if backup is not None:
        row_id = backup.id
        db.session.rollback()
        raise Conflict("A backup is running. Wait until it has finished, or cancel it.", id=str(row_id))


def cancel(actor: Actor, restore_id: UUID | None = None) -> Restore:
    """Cancel a restore (None: the queued or running one); a running one stops at its next heartbeat. Return its row. Raise
    NotFound, or Conflict if it has ended or its swap has begun."""
    row = get(restore_id) if restore_id else ledger.restores.live()
    if row is None:
        raise Conflict("No restore is queued or running: there is nothing to cancel.")
    row_id = row.id
    if ledger.restores.cancel_queued(row_id):
        queue.forget(queue.BACKUPS, ledger.restores.job_id(row_id))
    elif not ledger.restores.request_cancel(row_id):
        row = get(row_id)
        if row.status == "in_progress":
            raise Conflict(
                "The swap has begun and can no longer be stopped. Undo the restore once it has completed.", id=str(row_id)
            )
        raise Conflict(f"This restore is {row.status}: there is nothing to cancel.", id=str(row_id))
    audit.record(actor, "restore.cancelled", "restore", row_id)
    db.session.commit()
    return get(row_id)


def undo_problem(row: Restore) -> str | None:
    """Return why a restore's two states can't be swapped now, or None."""
    if row.status != "completed":
        return f"This restore is {row.status}: there is nothing to undo."
    if row.undo_until is None:
        return "This restore kept no state to go back to. Restore its safety backup instead."
    if row.discarded_at is not None or row.undo_until <= utcnow():
        return "The state before this restore is no longer kept. Restore its safety backup instead."
    if _later(row) is not None:
        return "A later restore has replaced its state. Undo that one first."
    return None


def _later(row: Restore) -> Restore | None:
    """Return a later restore whose new state is live in this one's place, or None."""
    later = select(Restore).where(
        Restore.status == "completed", Restore.undone_at.is_(None), Restore.created_at > row.created_at
    )
    if row.scope != "all":
        later = later.where(Restore.scope.in_(("all", row.scope)))
    return db.session.scalar(later.limit(1))


def undo(actor: Actor, restore_id: UUID | None = None, password: str | None = None) -> Restore:
    """Swap the live and the kept state of a completed restore (None: the last one), and return its row. A second undo brings
    the restored state back.

    An admin with a session gives the password again. Raise NotFound, InvalidInput, Throttled, Unauthenticated, Conflict
    with the reason, or Unavailable.
    """
    reauthentication.require(actor, password)
    row = get(restore_id) if restore_id else status()
    if row is None:
        raise NotFound("No restore has been made yet.")
    row_id = row.id
    with locks.holding(locks.SOURCE, patience=locks.BRIEFLY) as lock:
        if lock is None:
            running = ledger.restores.live() or running_backup()
            raise Conflict(UNDO_RUNNING, **({"id": str(running.id)} if running else {}))
        row = get(row_id)
        problem = undo_problem(row)
        if problem is not None:
            raise Conflict(problem, id=str(row_id))
        db.session.rollback()
        try:
            swap.undo(restore_engine.state_dir(), row_id, restore_engine.target())
        except EngineError as error:
            raise Unavailable(current.settings().redact(str(error)), id=str(row_id)) from error
        undone = restore_engine.old_state_is_live(row_id)
        restore_steps.record_live_state(row_id, undone, undo_until=undo_until())
        audit.record(actor, "restore.undone" if undone else "restore.redone", "restore", row_id)
        db.session.commit()
    return get(row_id)


def trust(actor: Actor, backup_id: UUID, words: str, password: str | None = None) -> BackupHistory:
    """Trust a backup that this installation has not signed, so that its SQL is executed like ours when it is restored.
    Return its row. `words` must be TRUST_WORDS.

    An admin with a session gives the password again. Raise NotFound, InvalidInput, Throttled, Unauthenticated or Conflict.
    """
    if words.strip().rstrip(".").casefold() != TRUST_WORDS.casefold():
        raise InvalidInput({"words": f"Type the sentence: {TRUST_WORDS}"})
    reauthentication.require(actor, password)
    row = backups.get(backup_id)
    if row.status != "completed":
        raise Conflict(f"This backup is {row.status}: there is no archive to trust.", id=str(row.id))
    if row.origin == "own":
        raise Conflict("This archive is signed by this installation and needs no trust.", id=str(row.id))
    if row.trusted_at is None:
        row.trusted_at, row.trusted_by = utcnow(), actor.name
        audit.record(actor, "backup.trusted", "backup", row.id, {"filename": row.filename, "sha256": row.sha256})
        db.session.commit()
    return row
