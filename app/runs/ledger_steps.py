"""The steps of a run's life that backups and restores share: open, claim, progress, close. Each is one conditional UPDATE
in a transaction of its own, and its row count decides: whoever lost the row learns it here.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Update, case, func, select, update

from app.extensions import db
from app.models import BackupHistory, Restore, utcnow

WAITING = "waiting"
Row = TypeVar("Row", BackupHistory, Restore)


class Lost(Exception):
    """The row has moved on: another attempt has it, or it was closed."""


class Cancelled(Exception):
    """Somebody asked to stop."""


class Steps(Generic[Row]):
    """The steps on one table. `noun` names a run in sentences and job ids; a claimed run begins with `first_phase`."""

    def __init__(self, table: type[Row], noun: str, first_phase: str) -> None:
        self.table: type[Row] = table
        self.noun = noun
        self.first_phase = first_phase

    def job_id(self, row_id: UUID) -> str:
        """Given a run's id, return the id of its job in the queue."""
        return f"{self.noun}-{row_id}"

    def claim(self, row_id: UUID, worker: str) -> int | None:
        """Given a queued run, make it ours and return its new attempt, from 1. Return None if it is not queued."""
        now = utcnow()
        values = {
            "status": "in_progress",
            "attempt": self.table.attempt + 1,
            "phase": self.first_phase,
            "bytes_done": 0,
            "bytes_total": None,
            "phase_started_at": now,
            "started_at": now,
            "heartbeat_at": now,
            "host": socket.gethostname(),
            "worker": f"{worker} (pid {os.getpid()})",
        }
        with db.engine.begin() as connection:
            return connection.execute(
                self._queued(row_id).values(**values).returning(self.table.attempt)
            ).scalar_one_or_none()

    def wait_in_line(self, row_id: UUID) -> bool:
        """Given a queued run that found another one running, say so in its row. Return whether it is still queued."""
        return changed(self._queued(row_id).values(phase=WAITING))

    def mark_enqueued(self, row_id: UUID) -> None:
        """Given a queued run, note when its job was put into the queue."""
        changed(self._queued(row_id).values(enqueued_at=utcnow()))

    def progress(self, row_id: UUID, attempt: int, phase: str, bytes_done: int, bytes_total: int | None) -> None:
        """Given how far our attempt is, write it with a heartbeat. Raise Lost, or Cancelled if that was asked for."""
        now = utcnow()
        statement = (
            update(self.table)
            .where(*self.ours(row_id, attempt))
            .values(
                phase=phase,
                bytes_done=bytes_done,
                bytes_total=bytes_total,
                heartbeat_at=now,
                phase_started_at=case((self.table.phase == phase, self.table.phase_started_at), else_=now),
            )
            .returning(self.table.cancel_requested_at)
        )
        with db.engine.begin() as connection:
            found = connection.execute(statement).first()
        if found is None:
            raise Lost(f"The {self.noun}'s row was closed, or another worker has taken it over.")
        if found.cancel_requested_at is not None:
            raise Cancelled(f"The {self.noun} was cancelled.")

    def complete(self, row_id: UUID, attempt: int, **figures: Any) -> bool:
        """Given our attempt and the figures (columns) of what it made, close the row as completed.

        Return False, having changed nothing, if the row is no longer ours.
        """
        return changed(self._closing(row_id, attempt, "completed", error=None, **figures))

    def fail(self, row_id: UUID, attempt: int, reason: str) -> bool:
        """Given our attempt and the reason as a sentence, close the row as failed. Return False if it is not ours."""
        return changed(self._closing(row_id, attempt, "failed", error=reason, finished_at=utcnow()))

    def cancel_running(self, row_id: UUID, attempt: int) -> bool:
        """Given our attempt, which was stopped on request, close the row. Return False if it is no longer ours."""
        return changed(self._closing(row_id, attempt, "cancelled", finished_at=utcnow()))

    def cancel_queued(self, row_id: UUID) -> bool:
        """Given a run, close it as cancelled if it is still queued. Return whether it was."""
        now = utcnow()
        values = {"status": "cancelled", "phase": None, "cancel_requested_at": now, "finished_at": now}
        return changed(self._queued(row_id).values(**values))

    def fail_queued(self, row_id: UUID, reason: str) -> bool:
        """Given a run that never got into the queue, close it as failed if it is still queued. Return whether it was."""
        values = {"status": "failed", "phase": None, "error": storable(reason), "finished_at": utcnow()}
        return changed(self._queued(row_id).values(**values))

    def request_cancel(self, row_id: UUID) -> bool:
        """Given a running run, ask its worker to stop; the next heartbeat sees it. Return whether it was running."""
        asked = func.coalesce(self.table.cancel_requested_at, utcnow())
        running = (self.table.id == row_id, self.table.status == "in_progress")
        return changed(update(self.table).where(*running).values(cancel_requested_at=asked))

    def silent_since(self, longer_than: timedelta) -> list[Row]:
        """Given a duration, return the running runs without a heartbeat for longer than it."""
        last = func.coalesce(self.table.heartbeat_at, self.table.created_at)
        statement = select(self.table).where(self.table.status == "in_progress", last < utcnow() - longer_than)
        return list(db.session.scalars(statement.execution_options(populate_existing=True)))

    def ours(self, row_id: UUID, attempt: int) -> list[ColumnElement[bool]]:
        """Given our attempt, return the conditions that its row still is ours."""
        return [self.table.id == row_id, self.table.attempt == attempt, self.table.status == "in_progress"]

    def _queued(self, row_id: UUID) -> Update:
        return update(self.table).where(self.table.id == row_id, self.table.status == "queued")

    def _closing(self, row_id: UUID, attempt: int, status: str, **values: Any) -> Update:
        kept = {name: storable(value) for name, value in values.items()}
        return update(self.table).where(*self.ours(row_id, attempt)).values(status=status, phase=None, **kept)


def storable(value: Any) -> Any:
    """Replace what PostgreSQL keeps in no text, NULs and lone surrogates, in a text or a list of texts: the reason why a run
    failed may quote a dump or a file's name, and must not be lost because of it."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return [storable(item) for item in value] if isinstance(value, list) else value


def changed(statement: Update) -> bool:
    """Given an UPDATE, run it in a transaction of its own and return whether it found its row."""
    with db.engine.begin() as connection:
        return connection.execute(statement).rowcount == 1
