"""The steps of verifying a completed backup's archive. The row stays completed; `verify_requested_at` says that it is asked
for or under way.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import update

from app.models import BackupHistory, utcnow
from app.runs.ledger import Lost, changed, progress_columns

Row = BackupHistory


def job_id(backup_id: uuid.UUID) -> str:
    """Return the id of the job that verifies a backup."""
    return f"verify-{backup_id}"


def request(backup_id: uuid.UUID, restore: bool) -> bool:
    """Record that a verification is asked for, with a test restore or without. Return False if one is already, or the
    backup is not completed."""
    values = {"verify_requested_at": utcnow(), "verify_restoring": restore, "bytes_done": 0, "bytes_total": Row.size_bytes}
    free = (Row.id == backup_id, Row.status == "completed", Row.verify_requested_at.is_(None))
    return changed(update(Row).where(*free).values(**values))


def progress(backup_id: uuid.UUID, phase: str, bytes_done: int, bytes_total: int | None) -> None:
    """Write how far the verification is. Raise Lost if the backup was deleted."""
    values = progress_columns(Row, phase, bytes_done, bytes_total)
    if not changed(update(Row).where(Row.id == backup_id, Row.status == "completed").values(**values)):
        raise Lost("The backup was deleted while its archive was being read.")


def finish(backup_id: uuid.UUID, read_at: datetime | None, problem: str | None, **columns: Any) -> bool:
    """Record that a verification passed, or the problem it found, and the columns of a test restore if one was made.

    Return False if the backup was deleted.
    """
    values = {"verified_at": read_at, "error": problem, "phase": None, "verify_requested_at": None, **columns}
    values["verify_restoring"] = False
    return changed(update(Row).where(Row.id == backup_id, Row.status == "completed").values(**values))


def abandon(backup_id: uuid.UUID) -> None:
    """Withdraw the request of a verification that was interrupted."""
    values = {"phase": None, "verify_requested_at": None, "verify_restoring": False}
    changed(update(Row).where(Row.id == backup_id, Row.status == "completed").values(**values))
