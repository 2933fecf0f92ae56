"""The life of a restore's row, by the same conditional steps as a backup's; nothing else writes `status` or `attempt`."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import ColumnElement, func, select, update

from app.extensions import db
from app.models import Restore, utcnow
from app.models.backup_history import LIVE
from app.runs.ledger_steps import WAITING, Cancelled, Lost, Steps, changed

__all__ = ["WAITING", "Cancelled", "Lost"]

Row = Restore
_steps = Steps(Restore, "restore", "prepare")

job_id = _steps.job_id
claim = _steps.claim
wait_in_line = _steps.wait_in_line
mark_enqueued = _steps.mark_enqueued
progress = _steps.progress
complete = _steps.complete
fail = _steps.fail
cancel_running = _steps.cancel_running
cancel_queued = _steps.cancel_queued
fail_queued = _steps.fail_queued
silent_since = _steps.silent_since

BEFORE_SWAP: ColumnElement[bool] = Row.swap_at.is_(None)


def open_restore(requested_by: str, **values: Any) -> Restore:
    """Given what was asked for, add a queued row to the session's transaction and return it. The caller commits."""
    row_id = uuid.uuid4()
    row = Restore(id=row_id, status="queued", requested_by=requested_by, job_id=job_id(row_id), **values)
    db.session.add(row)
    return row


def live() -> Restore | None:
    """Return the restore that is queued or running, or None."""
    statement = select(Row).where(Row.status.in_(LIVE)).order_by(Row.created_at).limit(1)
    return db.session.scalar(statement.execution_options(populate_existing=True))


def begin_swap(restore_id: uuid.UUID, attempt: int) -> None:
    """Given our attempt, whose swap begins now, close the door to cancelling. Raise Lost, or Cancelled if it was asked
    for before."""
    mine = _steps.ours(restore_id, attempt)
    now = utcnow()
    values = {"phase": "swap", "phase_started_at": now, "heartbeat_at": now, "swap_at": now}
    if changed(update(Row).where(*mine, Row.cancel_requested_at.is_(None)).values(**values)):
        return
    if db.session.scalar(select(Row.id).where(*mine)) is not None:
        raise Cancelled("The restore was cancelled.")
    raise Lost("The restore's row was closed, or another worker has taken it over.")


def request_cancel(restore_id: uuid.UUID) -> bool:
    """Given a restore, ask its worker to stop at the next heartbeat. Return whether it was running, before its swap."""
    asked = func.coalesce(Row.cancel_requested_at, utcnow())
    running = (Row.id == restore_id, Row.status == "in_progress", BEFORE_SWAP)
    return changed(update(Row).where(*running).values(cancel_requested_at=asked))


def exchanged(restore_id: uuid.UUID, undone: bool, **values: Any) -> bool:
    """Given a completed restore whose two states were exchanged, note whether the old one is live now."""
    statement = update(Row).where(Row.id == restore_id, Row.status == "completed")
    return changed(statement.values(undone_at=utcnow() if undone else None, **values))


def was_completed(restore_id: uuid.UUID, **values: Any) -> bool:
    """Given a restore that was closed as failed or cancelled though its swap was made, say what is true."""
    statement = update(Row).where(Row.id == restore_id, Row.status.in_(("failed", "cancelled")))
    return changed(statement.values(status="completed", error=None, **values))


def link_safety_backup(restore_id: uuid.UUID, attempt: int, backup_id: uuid.UUID) -> None:
    """Given our attempt and the safety backup that it is about to make, note it in the session's transaction. Raise Lost."""
    statement = update(Row).where(*_steps.ours(restore_id, attempt)).values(safety_backup_id=backup_id)
    if db.session.scalar(statement.returning(Row.id)) is None:
        raise Lost("The restore's row was closed, or another worker has taken it over.")


def discarded(restore_id: uuid.UUID) -> bool:
    """Given a restore whose kept state was dropped, note that there is no way back any more."""
    return changed(update(Row).where(Row.id == restore_id).values(discarded_at=utcnow()))
