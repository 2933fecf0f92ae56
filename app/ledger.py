"""The life of a history row: open, claim, progress, close. Each step is one conditional UPDATE in a transaction of its
own, and its row count decides: whoever lost the row learns it here. Nothing else writes `status` or `attempt`.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import case, delete, update

from app.extensions import db
from app.ledger_steps import WAITING, Cancelled, Lost, Steps, changed
from app.models import BackupHistory, utcnow

__all__ = ["WAITING", "Cancelled", "Lost"]

Row = BackupHistory
UPLOADING = 1
"""The attempt of an upload: it has only one."""
_steps = Steps(BackupHistory, "backup", "preflight")

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
request_cancel = _steps.request_cancel
silent_since = _steps.silent_since


def open_backup(kind: str, requested_by: str, note: str | None = None, **values: Any) -> BackupHistory:
    """Given what was asked for, add a queued row to the session's transaction and return it. The caller commits."""
    row_id = uuid.uuid4()
    row = BackupHistory(
        id=row_id, kind=kind, status="queued", requested_by=requested_by, note=note, job_id=job_id(row_id), **values
    )
    db.session.add(row)
    return row


def open_upload(upload_id: uuid.UUID, requested_by: str, note: str | None, **columns: Any) -> None:
    """Given an upload that is checked and about to be named, add its row to the session's transaction, in progress: who
    made it calls `complete` with the attempt UPLOADING, or, where that process died, the tick does. The caller commits."""
    now = utcnow()
    row = BackupHistory(id=upload_id, status="in_progress", attempt=UPLOADING, phase="publish", note=note, **columns)
    row.requested_by, row.heartbeat_at, row.phase_started_at = requested_by, now, now
    db.session.add(row)


def drop_upload(upload_id: uuid.UUID) -> None:
    """Given an upload that could not be named, forget it."""
    with db.engine.begin() as connection:
        connection.execute(delete(Row).where(Row.id == upload_id, Row.status == "in_progress"))


def reopen(backup_id: uuid.UUID) -> bool:
    """Given a failed backup that is to be tried again, queue it in the session's transaction. Return whether it was failed.
    Its next attempt has the next number, so that a lost worker of the last one is shut out."""
    values: dict[str, Any] = {"status": "queued", "phase": None, "error": None, "finished_at": None, "enqueued_at": None}
    values |= {"cancel_requested_at": None, "bytes_done": 0, "bytes_total": None, "notified_at": None}
    statement = update(Row).where(Row.id == backup_id, Row.status == "failed").values(**values).returning(Row.id)
    return db.session.scalar(statement) is not None


def verifying(backup_id: uuid.UUID, phase: str, bytes_done: int, bytes_total: int | None) -> None:
    """Given how far the verification of a completed backup is, write it. Raise Lost if the row is gone."""
    now = utcnow()
    statement = (
        update(Row)
        .where(Row.id == backup_id, Row.status == "completed")
        .values(
            phase=phase,
            bytes_done=bytes_done,
            bytes_total=bytes_total,
            heartbeat_at=now,
            phase_started_at=case((Row.phase == phase, Row.phase_started_at), else_=now),
        )
    )
    if not changed(statement):
        raise Lost("The backup was deleted while its archive was being read.")


def verified(backup_id: uuid.UUID, read_at: datetime | None, problem: str | None, **restore_test: Any) -> bool:
    """Given a completed backup's verification, write when it matched, or what is wrong, and the columns of a test
    restore if one was made. Return False if the row is gone."""
    values = {"verified_at": read_at, "error": problem, "phase": None, "verify_requested_at": None, **restore_test}
    values["verify_restoring"] = False
    return changed(update(Row).where(Row.id == backup_id, Row.status == "completed").values(**values))


def give_up_verifying(backup_id: uuid.UUID) -> None:
    """Given a backup whose verification was cut short, forget that it was asked for."""
    values = {"phase": None, "verify_requested_at": None, "verify_restoring": False}
    changed(update(Row).where(Row.id == backup_id, Row.status == "completed").values(**values))
