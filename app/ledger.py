"""The life of a history row: open, claim, progress, close. Each step is one conditional UPDATE in a transaction of its
own, and its row count decides: whoever lost the row learns it here. Nothing else writes `status` or `attempt`.
"""

from __future__ import annotations

import os
import socket
import uuid
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Update, case, func, select, update

from app.extensions import db
from app.models import BackupHistory, utcnow

WAITING = "waiting"
Row = BackupHistory


def open_backup(kind: str, requested_by: str, note: str | None = None, **values: Any) -> BackupHistory:
    """Given what was asked for, add a queued row to the session's transaction and return it. The caller commits."""
    row_id = uuid.uuid4()
    row = BackupHistory(
        id=row_id, kind=kind, status="queued", requested_by=requested_by, note=note, job_id=job_id(row_id), **values
    )
    db.session.add(row)
    return row


def job_id(backup_id: uuid.UUID) -> str:
    """Given a backup's id, return the id of its job in the queue."""
    return f"backup-{backup_id}"


def claim(backup_id: uuid.UUID, worker: str) -> int | None:
    """Given a queued backup, make it ours and return its new attempt, from 1. Return None if it is not queued."""
    now = utcnow()
    statement = (
        update(Row)
        .where(Row.id == backup_id, Row.status == "queued")
        .values(
            status="in_progress",
            attempt=Row.attempt + 1,
            phase="preflight",
            bytes_done=0,
            bytes_total=None,
            phase_started_at=now,
            started_at=now,
            heartbeat_at=now,
            host=socket.gethostname(),
            worker=f"{worker} (pid {os.getpid()})",
        )
        .returning(Row.attempt)
    )
    with db.engine.begin() as connection:
        return connection.execute(statement).scalar_one_or_none()


def wait_in_line(backup_id: uuid.UUID) -> bool:
    """Given a queued backup that found another one running, say so in its row. Return whether it is still queued."""
    return _changed(update(Row).where(Row.id == backup_id, Row.status == "queued").values(phase=WAITING))


def mark_enqueued(backup_id: uuid.UUID) -> None:
    """Given a queued backup, note when its job was put into the queue."""
    _changed(update(Row).where(Row.id == backup_id, Row.status == "queued").values(enqueued_at=utcnow()))


class Lost(Exception):
    """The row has moved on: another attempt has it, or it was closed."""


class Cancelled(Exception):
    """Somebody asked to stop."""


def progress(backup_id: uuid.UUID, attempt: int, phase: str, bytes_done: int, bytes_total: int | None) -> None:
    """Given how far our attempt is, write it with a heartbeat. Raise Lost, or Cancelled if that was asked for."""
    now = utcnow()
    statement = (
        update(Row)
        .where(*_ours(backup_id, attempt))
        .values(
            phase=phase,
            bytes_done=bytes_done,
            bytes_total=bytes_total,
            heartbeat_at=now,
            phase_started_at=case((Row.phase == phase, Row.phase_started_at), else_=now),
        )
        .returning(Row.cancel_requested_at)
    )
    with db.engine.begin() as connection:
        found = connection.execute(statement).first()
    if found is None:
        raise Lost("The backup's row was closed, or another worker has taken it over.")
    if found.cancel_requested_at is not None:
        raise Cancelled("The backup was cancelled.")


def complete(backup_id: uuid.UUID, attempt: int, **figures: Any) -> bool:
    """Given our attempt and the published archive's figures (columns of the row), close the row as completed.

    Return False, having changed nothing, if the row is no longer ours.
    """
    return _changed(_closing(backup_id, attempt, "completed", error=None, **figures))


def fail(backup_id: uuid.UUID, attempt: int, reason: str) -> bool:
    """Given our attempt and the reason as a sentence, close the row as failed. Return False if it is no longer ours."""
    return _changed(_closing(backup_id, attempt, "failed", error=reason, finished_at=utcnow()))


def cancel_running(backup_id: uuid.UUID, attempt: int) -> bool:
    """Given our attempt, which was stopped on request, close the row. Return False if it is no longer ours."""
    return _changed(_closing(backup_id, attempt, "cancelled", finished_at=utcnow()))


def cancel_queued(backup_id: uuid.UUID) -> bool:
    """Given a backup, close it as cancelled if it is still queued. Return whether it was."""
    values = {"status": "cancelled", "phase": None, "cancel_requested_at": utcnow(), "finished_at": utcnow()}
    return _changed(update(Row).where(Row.id == backup_id, Row.status == "queued").values(**values))


def fail_queued(backup_id: uuid.UUID, reason: str) -> bool:
    """Given a backup that never got into the queue, close it as failed if it is still queued. Return whether it was."""
    values = {"status": "failed", "phase": None, "error": reason, "finished_at": utcnow()}
    return _changed(update(Row).where(Row.id == backup_id, Row.status == "queued").values(**values))


def request_cancel(backup_id: uuid.UUID) -> bool:
    """Given a running backup, ask its worker to stop; the next heartbeat sees it. Return whether it was running."""
    asked = func.coalesce(Row.cancel_requested_at, utcnow())
    return _changed(update(Row).where(Row.id == backup_id, Row.status == "in_progress").values(cancel_requested_at=asked))


def silent_since(longer_than: timedelta) -> list[BackupHistory]:
    """Given a duration, return the running backups without a heartbeat for longer than it."""
    before = utcnow() - longer_than
    statement = select(Row).where(Row.status == "in_progress", func.coalesce(Row.heartbeat_at, Row.created_at) < before)
    return list(db.session.scalars(statement.execution_options(populate_existing=True)))


def verifying(backup_id: uuid.UUID, bytes_done: int, bytes_total: int | None) -> None:
    """Given how far the verification of a completed backup is, write it. Raise Lost if the row is gone."""
    now = utcnow()
    statement = (
        update(Row)
        .where(Row.id == backup_id, Row.status == "completed")
        .values(
            phase="verify",
            bytes_done=bytes_done,
            bytes_total=bytes_total,
            heartbeat_at=now,
            phase_started_at=case((Row.phase == "verify", Row.phase_started_at), else_=now),
        )
    )
    if not _changed(statement):
        raise Lost("The backup was deleted while its archive was being read.")


def verified(backup_id: uuid.UUID, read_at: datetime | None, problem: str | None) -> bool:
    """Given a completed backup's verification, write when it matched, or what is wrong. Return False if it is gone."""
    values = {"verified_at": read_at, "error": problem, "phase": None, "verify_requested_at": None}
    return _changed(update(Row).where(Row.id == backup_id, Row.status == "completed").values(**values))


def give_up_verifying(backup_id: uuid.UUID) -> None:
    """Given a backup whose verification was cut short, forget that it was asked for."""
    _changed(update(Row).where(Row.id == backup_id, Row.status == "completed").values(phase=None, verify_requested_at=None))


def _ours(backup_id: uuid.UUID, attempt: int) -> list[ColumnElement[bool]]:
    return [Row.id == backup_id, Row.attempt == attempt, Row.status == "in_progress"]


def _closing(backup_id: uuid.UUID, attempt: int, status: str, **values: Any) -> Update:
    return update(Row).where(*_ours(backup_id, attempt)).values(status=status, phase=None, **values)


def _changed(statement: Update) -> bool:
    with db.engine.begin() as connection:
        return connection.execute(statement).rowcount == 1
