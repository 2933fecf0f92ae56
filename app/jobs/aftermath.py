"""What follows the end of a run. A failure here is logged, and never changes how the run ended."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import structlog

from app.extensions import db
from app.models import BackupHistory, utcnow
from app.runs import retry
from app.services.audit.actor import Actor
from app.services.history import retention_plan
from app.services.notifications import notices, outbox
from app.services.recovery import restore_recovery
from app.services.restores import restore_run
from app.services.retention import cleanup
from app.services.schedules import due_slots

logger = structlog.get_logger(__name__)


def of_backup(backup_id: UUID) -> None:
    """After a backup has ended: settle its slots, update the categories, clean up if it was a scheduled one that succeeded,
    and notify."""
    guarded("slots", lambda: due_slots.settle(utcnow()))
    row = db.session.get(BackupHistory, backup_id, populate_existing=True)
    if row is not None and row.status == "completed":
        if row.kind == "scheduled":
            guarded("cleanup", lambda: cleanup.cleanup(Actor.system("cleanup after backup")))
        else:
            guarded("categories", retention_plan.refresh)
    guarded("news", notices.announce)
    guarded("outbox", outbox.enqueue_due)


def of_restore(restore_id: UUID, can_be_undone: bool) -> None:
    """After a restore has completed: record it in the audit log, and drop the states that are not kept any longer.

    The caller still holds the source's lock exclusively.
    """
    guarded("audit", lambda: retry.while_database_restarts(lambda: restore_run.note(restore_id, "restore.completed")))
    if not can_be_undone:
        guarded("state before the restore", lambda: restore_recovery.drop_kept(restore_id))
    guarded("expired states", restore_recovery.expire)


def guarded(what: str, do: Callable[[], object]) -> None:
    """Do a step, and log its failure under its name. The minute tick tries it again."""
    try:
        do()
    except Exception:
        logger.exception("a step failed", step=what)
    finally:
        db.session.rollback()
