"""The life of a history row: open, claim, progress, close. Each step is one conditional UPDATE in a transaction of its
own, and its row count decides: whoever lost the row learns it here. Nothing else writes `status` or `attempt`.
"""

from __future__ import annotations

import os
import socket
import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, case, update

from app.extensions import db
from app.models import BackupHistory, utcnow
from app.runs.ledger_steps import WAITING, Cancelled, Lost, Steps, changed

__all__ = ["WAITING", "Cancelled", "Lost"]

Row = BackupHistory
CHECK = "check"
"""The phase of an upload that waits for its check, or is being checked."""
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


def open_upload(upload_id: uuid.UUID, requested_by: str, note: str | None, size_bytes: int, sha256: str) -> None:
    """Add the row of an upload that is on the disk and waits for its check to the session's transaction; the caller commits.

    It is in progress from the start, and waits as long as no worker is named (see `upload_waits`).
    """
    row = BackupHistory(id=upload_id, kind="uploaded", status="in_progress", phase=CHECK, note=note, attempt=0, pinned=True)
    row.requested_by, row.size_bytes, row.sha256 = requested_by, size_bytes, sha256
    row.bytes_done, row.bytes_total, row.origin, row.job_id = 0, size_bytes, "foreign", check_job_id(upload_id)
    row.created_at = row.notified_at = utcnow()
    db.session.add(row)


def check_job_id(upload_id: uuid.UUID, attempts: int = 0) -> str:
    """Return the id of the job that checks an upload after so many attempts: a lost one's job is not taken for the next."""
    return f"check-{upload_id}-{attempts + 1}"


def upload_waits() -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of an upload that waits for its check: no worker has it."""
    return Row.kind == "uploaded", Row.status == "in_progress", Row.worker.is_(None)


def claim_check(upload_id: uuid.UUID, worker: str) -> int | None:
    """Take an upload that waits for its check, and return the new attempt, from 1; None if it does not wait."""
    now = utcnow()
    values = {"attempt": Row.attempt + 1, "heartbeat_at": now, "phase": CHECK, "phase_started_at": now, "bytes_done": 0}
    values |= {"host": socket.gethostname(), "worker": f"{worker} (pid {os.getpid()})"}
    statement = update(Row).where(Row.id == upload_id, *upload_waits()).values(**values).returning(Row.attempt)
    with db.engine.begin() as connection:
        return connection.execute(statement).scalar_one_or_none()


def checked(upload_id: uuid.UUID, attempt: int, **columns: Any) -> bool:
    """Write what the check of an upload found, before its file gets its name. Return False if the row is not ours."""
    values = {"phase": "publish", "heartbeat_at": utcnow(), **columns}
    return changed(update(Row).where(*_steps.ours(upload_id, attempt)).values(**values))


def check_again(upload_id: uuid.UUID, attempt: int) -> bool:
    """Let an upload whose worker was lost wait for another check. Return False if the row has moved on."""
    values = {"worker": None, "phase": CHECK, "bytes_done": 0, "enqueued_at": None}
    return changed(update(Row).where(*_steps.ours(upload_id, attempt)).values(**values))


def mark_check_enqueued(upload_id: uuid.UUID) -> None:
    """Note when the job of an upload's check was put into the queue."""
    changed(update(Row).where(Row.id == upload_id, *upload_waits()).values(enqueued_at=utcnow()))


def cancel_waiting_check(upload_id: uuid.UUID) -> bool:
    """Close an upload as cancelled if no worker has begun to check it. Return whether it was so."""
    now = utcnow()
    values = {"status": "cancelled", "phase": None, "cancel_requested_at": now, "finished_at": now}
    return changed(update(Row).where(Row.id == upload_id, *upload_waits()).values(**values))


def reopen(backup_id: uuid.UUID) -> bool:
    """Given a failed backup that is to be tried again, queue it in the session's transaction. Return whether it was failed.
    Its next attempt has the next number, so that a lost worker of the last one is shut out."""
    values: dict[str, Any] = {"status": "queued", "phase": None, "error": None, "finished_at": None, "enqueued_at": None}
    values |= {"cancel_requested_at": None, "bytes_done": 0, "bytes_total": None, "notified_at": None}
    statement = update(Row).where(Row.id == backup_id, Row.status == "failed").values(**values).returning(Row.id)
    return db.session.scalar(statement) is not None


def ask_to_verify(backup_id: uuid.UUID, restore: bool) -> bool:
    """Note that the verification of a completed backup is asked for. Return False if it is already, or the row is gone."""
    values = {"verify_requested_at": utcnow(), "verify_restoring": restore, "bytes_done": 0, "bytes_total": Row.size_bytes}
    free = (Row.id == backup_id, Row.status == "completed", Row.verify_requested_at.is_(None))
    return changed(update(Row).where(*free).values(**values))


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
