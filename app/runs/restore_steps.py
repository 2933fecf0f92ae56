"""The steps of a restore besides those of every run: its safety backup, its swap, and the fate of the state before it."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import select, update

from app.extensions import db
from app.models import Restore, utcnow
from app.runs import ledger
from app.runs.ledger import changed

Row = Restore


def link_safety_backup(restore_id: uuid.UUID, attempt: int, backup_id: uuid.UUID) -> None:
    """Record, in the session's transaction, the safety backup that our attempt is about to make. Raise Lost."""
    statement = update(Row).where(*ledger.restores.ours(restore_id, attempt)).values(safety_backup_id=backup_id)
    if db.session.scalar(statement.returning(Row.id)) is None:
        raise ledger.restores.lost()


def begin_swap(restore_id: uuid.UUID, attempt: int) -> None:
    """Record that our attempt's swap begins; from here on it can't be cancelled. Raise Lost, or Cancelled if that was asked
    for before."""
    ours = ledger.restores.ours(restore_id, attempt)
    now = utcnow()
    values = {"phase": "swap", "phase_started_at": now, "heartbeat_at": now, "swap_at": now}
    if changed(update(Row).where(*ours, Row.cancel_requested_at.is_(None)).values(**values)):
        return
    if db.session.scalar(select(Row.id).where(*ours)) is not None:
        raise ledger.restores.cancelled()
    raise ledger.restores.lost()


def complete_after_all(restore_id: uuid.UUID, **columns: Any) -> bool:
    """Close as completed a restore that was closed as failed or cancelled although its swap was made.

    Return False if it was not closed so.
    """
    statement = update(Row).where(Row.id == restore_id, Row.status.in_(("failed", "cancelled")))
    return changed(statement.values(status="completed", error=None, **columns))


def record_live_state(restore_id: uuid.UUID, undone: bool, **columns: Any) -> bool:
    """Record which of a completed restore's two states is live now: the one before it (`undone`) or the restored one."""
    statement = update(Row).where(Row.id == restore_id, Row.status == "completed")
    return changed(statement.values(undone_at=utcnow() if undone else None, **columns))


def record_discarded(restore_id: uuid.UUID) -> bool:
    """Record that the state before a restore was dropped, so that it can't be undone any more."""
    return changed(update(Row).where(Row.id == restore_id).values(discarded_at=utcnow()))
