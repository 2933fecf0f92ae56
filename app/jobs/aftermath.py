"""What follows a run, whatever became of it. None of it may change that."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import structlog

from app.extensions import db
from app.models import BackupHistory, utcnow
from app.services.audit.actor import Actor
from app.services.notifications import notices, notifications
from app.services.retention import cleanup, retention_plan
from app.services.schedules import slots

logger = structlog.get_logger(__name__)


def of_backup(backup_id: UUID) -> None:
    """Close an ended backup's slots, classify, clean up after a scheduled success, and notify."""
    guarded("slots", lambda: slots.settle(utcnow()))
    row = db.session.get(BackupHistory, backup_id, populate_existing=True)
    if row is not None and row.status == "completed":
        if row.kind == "scheduled":
            guarded("cleanup", lambda: cleanup.cleanup(Actor.system("cleanup after backup")))
        else:
            guarded("categories", retention_plan.refresh)
    tell()


def tell() -> None:
    """Put the news into the outbox, and what is due there into the queue."""
    guarded("news", notices.announce)
    guarded("outbox", notifications.enqueue_due)


def guarded(what: str, do: Callable[[], object]) -> None:
    """Run a step; log a failure, which the minute tick retries."""
    try:
        do()
    except Exception:
        logger.exception("a step failed", step=what)
    finally:
        db.session.rollback()
