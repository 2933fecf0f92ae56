"""The steps of an uploaded archive besides those of every backup: it is received first, and then waits for its check.

Its row is in progress from the start. It waits as long as no worker is named in it.
"""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import ColumnElement, update

from app.extensions import db
from app.models import BackupHistory, utcnow
from app.runs import ledger
from app.runs.ledger import changed

PHASE = "check"
"""The phase of an upload that waits for its check, or is being checked."""
Row = BackupHistory


def open_upload(upload_id: uuid.UUID, requested_by: str, note: str | None, size_bytes: int, sha256: str) -> None:
    """Add the row of an upload that is on the disk to the session's transaction.

    The caller commits, then enqueues the check.
    """
    row = BackupHistory(id=upload_id, kind="uploaded", status="in_progress", phase=PHASE, note=note, attempt=0, pinned=True)
    row.requested_by, row.size_bytes, row.sha256 = requested_by, size_bytes, sha256
    row.bytes_done, row.bytes_total, row.origin, row.job_id = 0, size_bytes, "foreign", check_job_id(upload_id)
    row.created_at = row.notified_at = utcnow()
    db.session.add(row)


def check_job_id(upload_id: uuid.UUID, attempts: int = 0) -> str:
    """Return the id of the job that checks an upload after so many attempts.

    Each attempt has its own, so that the job of a lost worker is not taken for the next one.
    """
    return f"check-{upload_id}-{attempts + 1}"


def waits_for_check() -> tuple[ColumnElement[bool], ...]:
    """Return the conditions of an upload that waits for its check: no worker has it."""
    return Row.kind == "uploaded", Row.status == "in_progress", Row.worker.is_(None)


def mark_check_enqueued(upload_id: uuid.UUID) -> None:
    """Record when the job of an upload's check was put into the queue."""
    changed(update(Row).where(Row.id == upload_id, *waits_for_check()).values(enqueued_at=utcnow()))


def claim_check(upload_id: uuid.UUID, worker: str) -> int | None:
    """Take an upload that waits for its check. Return the new attempt, from 1, or None if it does not wait."""
    now = utcnow()
    values = {"attempt": Row.attempt + 1, "heartbeat_at": now, "phase": PHASE, "phase_started_at": now, "bytes_done": 0}
    values |= ledger.this_process(worker)
    waiting = update(Row).where(Row.id == upload_id, *waits_for_check())
    with db.engine.begin() as connection:
        return connection.execute(waiting.values(**values).returning(Row.attempt)).scalar_one_or_none()


def record_check(upload_id: uuid.UUID, attempt: int, **columns: Any) -> bool:
    """Write what the check found, before the file gets its name. Return False if the row is no longer ours."""
    values = {"phase": "publish", "heartbeat_at": utcnow(), **columns}
    return changed(update(Row).where(*ledger.backups.ours(upload_id, attempt)).values(**values))


def check_again(upload_id: uuid.UUID, attempt: int) -> bool:
    """Let an upload whose worker was lost wait for another check. Return False if the row has moved on."""
    values = {"worker": None, "phase": PHASE, "bytes_done": 0, "enqueued_at": None}
    return changed(update(Row).where(*ledger.backups.ours(upload_id, attempt)).values(**values))


def cancel_waiting(upload_id: uuid.UUID) -> bool:
    """Close an upload as cancelled if no worker has begun to check it. Return whether that was so."""
    now = utcnow()
    values = {"status": "cancelled", "phase": None, "cancel_requested_at": now, "finished_at": now}
    return changed(update(Row).where(Row.id == upload_id, *waits_for_check()).values(**values))
