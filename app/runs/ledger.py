"""The life of a run, as its history row records it: queued, claimed, in progress, closed. Backups and restores share it.

Each step is one conditional UPDATE in a transaction of its own, and its row count decides: a worker that lost its row
learns of it there. `status` and `attempt` of a run are written here only, and by the steps that one kind of run has
besides: `upload_steps` and `restore_steps`. (`verification_steps` leave the status alone.) Recovery adds completed rows for
archives and restores that it finds on the disk and the table doesn't know.
"""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Update, case, func, select, true, update

from app.extensions import db
from app.models import BackupHistory, Restore, utcnow
from app.models.backup_history import LIVE

WAITING = "waiting"
"""The phase of a queued run that waits for another one to finish."""
Row = TypeVar("Row", BackupHistory, Restore)


class Lost(Exception):
    """The row has moved on: another attempt has it, or it was closed."""


class Cancelled(Exception):
    """Somebody asked to stop."""


class RunLedger(Generic[Row]):
    """The steps of the runs in one table.

    `noun` names a run in sentences and job ids; a claimed run begins with `first_phase`; a running one can be asked to stop
    as long as it meets the condition `cancellable`.
    """

    def __init__(self, table: type[Row], noun: str, first_phase: str, cancellable: ColumnElement[bool]) -> None:
        self.table: type[Row] = table
        self.noun = noun
        self.first_phase = first_phase
        self.cancellable = cancellable

    def open(self, requested_by: str, **columns: Any) -> Row:
        """Add a queued row to the session's transaction. The caller commits, then enqueues the job."""
        row_id = uuid4()
        row = self.table(id=row_id, status="queued", requested_by=requested_by, job_id=self.job_id(row_id), **columns)
        db.session.add(row)
        return row

    def reopen(self, row_id: UUID) -> bool:
        """Queue a failed run again, in the session's transaction. Return whether it was failed.

        The next attempt gets the next number, so a worker that still believes it has the last one is shut out.
        """
        values: dict[str, Any] = {"status": "queued", "phase": None, "error": None, "finished_at": None}
        values |= {"bytes_done": 0, "bytes_total": None}
        values |= {"enqueued_at": None, "cancel_requested_at": None, "notified_at": None}
        failed = update(self.table).where(self.table.id == row_id, self.table.status == "failed")
        return db.session.scalar(failed.values(**values).returning(self.table.id)) is not None

    def job_id(self, row_id: UUID) -> str:
        """Return the id of a run's job in the queue."""
        return f"{self.noun}-{row_id}"

    def mark_enqueued(self, row_id: UUID) -> None:
        """Record when the job of a queued run was put into the queue."""
        changed(self._queued(row_id).values(enqueued_at=utcnow()))

    def wait_in_line(self, row_id: UUID) -> bool:
        """Record that a queued run found another one running. Return whether it is still queued."""
        return changed(self._queued(row_id).values(phase=WAITING))

    def claim(self, row_id: UUID, worker: str) -> int | None:
        """Take a queued run for this process. Return the new attempt, from 1, or None if it is not queued."""
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
            **this_process(worker),
        }
        statement = self._queued(row_id).values(**values).returning(self.table.attempt)
        with db.engine.begin() as connection:
            return connection.execute(statement).scalar_one_or_none()

    def progress(self, row_id: UUID, attempt: int, phase: str, bytes_done: int, bytes_total: int | None) -> None:
        """Write how far our attempt is, as a heartbeat. Raise Lost, or Cancelled if that was asked for."""
        values = progress_columns(self.table, phase, bytes_done, bytes_total)
        ours = update(self.table).where(*self.ours(row_id, attempt))
        with db.engine.begin() as connection:
            found = connection.execute(ours.values(**values).returning(self.table.cancel_requested_at)).first()
        if found is None:
            raise self.lost()
        if found.cancel_requested_at is not None:
            raise self.cancelled()

    def complete(self, row_id: UUID, attempt: int, **columns: Any) -> bool:
        """Close our attempt as completed, with the columns that describe its result.

        Return False, having changed nothing, if the row is no longer ours.
        """
        return changed(self._closing(row_id, attempt, "completed", error=None, **columns))

    def fail(self, row_id: UUID, attempt: int, reason: str) -> bool:
        """Close our attempt as failed; the reason is a sentence. Return False if the row is no longer ours."""
        return changed(self._closing(row_id, attempt, "failed", error=reason, finished_at=utcnow()))

    def cancel_running(self, row_id: UUID, attempt: int) -> bool:
        """Close our attempt, which stopped on request, as cancelled. Return False if the row is no longer ours."""
        return changed(self._closing(row_id, attempt, "cancelled", finished_at=utcnow()))

    def cancel_queued(self, row_id: UUID) -> bool:
        """Close a run as cancelled if it is still queued. Return whether it was."""
        now = utcnow()
        values = {"status": "cancelled", "phase": None, "cancel_requested_at": now, "finished_at": now}
        return changed(self._queued(row_id).values(**values))

    def fail_queued(self, row_id: UUID, reason: str) -> bool:
        """Close a run that can't begin as failed if it is still queued. Return whether it was."""
        values = {"status": "failed", "phase": None, "error": storable(reason), "finished_at": utcnow()}
        return changed(self._queued(row_id).values(**values))

    def request_cancel(self, row_id: UUID) -> bool:
        """Ask the worker of a running run to stop at its next heartbeat. Return whether it runs and can still be stopped."""
        asked = func.coalesce(self.table.cancel_requested_at, utcnow())
        running = (self.table.id == row_id, self.table.status == "in_progress", self.cancellable)
        return changed(update(self.table).where(*running).values(cancel_requested_at=asked))

    def live(self) -> Row | None:
        """Return the oldest run that is queued or in progress, or None."""
        statement = select(self.table).where(self.table.status.in_(LIVE)).order_by(self.table.created_at).limit(1)
        return db.session.scalar(statement.execution_options(populate_existing=True))

    def silent_since(self, longer_than: timedelta) -> list[Row]:
        """Return the runs in progress whose last heartbeat is longer ago than that."""
        last = func.coalesce(self.table.heartbeat_at, self.table.created_at)
        statement = select(self.table).where(self.table.status == "in_progress", last < utcnow() - longer_than)
        return list(db.session.scalars(statement.execution_options(populate_existing=True)))

    def ours(self, row_id: UUID, attempt: int) -> tuple[ColumnElement[bool], ...]:
        """Return the conditions under which a row is still our attempt's."""
        return self.table.id == row_id, self.table.attempt == attempt, self.table.status == "in_progress"

    def lost(self) -> Lost:
        """Return the error of an attempt whose row is no longer its own."""
        return Lost(f"The {self.noun}'s row was closed, or another worker has taken it over.")

    def cancelled(self) -> Cancelled:
        """Return the error of an attempt that was asked to stop."""
        return Cancelled(f"The {self.noun} was cancelled.")

    def _queued(self, row_id: UUID) -> Update:
        return update(self.table).where(self.table.id == row_id, self.table.status == "queued")

    def _closing(self, row_id: UUID, attempt: int, status: str, **values: Any) -> Update:
        kept = {name: storable(value) for name, value in values.items()}
        return update(self.table).where(*self.ours(row_id, attempt)).values(status=status, phase=None, **kept)


backups = RunLedger(BackupHistory, noun="backup", first_phase="preflight", cancellable=true())
restores = RunLedger(Restore, noun="restore", first_phase="prepare", cancellable=Restore.swap_at.is_(None))


def unexpected(error: Exception) -> str:
    """Return the reason for a failure that nobody foresaw. It is not redacted yet."""
    return f"Something unexpected went wrong. The worker's log has the details: {type(error).__name__}: {error}"


def this_process(worker: str) -> dict[str, str]:
    """Return the columns that say which process has a run."""
    return {"host": socket.gethostname(), "worker": f"{worker} (pid {os.getpid()})"}


def progress_columns(table: type[Row], phase: str, bytes_done: int, bytes_total: int | None) -> dict[str, Any]:
    """Return the columns of a heartbeat; a phase's clock starts when the phase changes."""
    now = utcnow()
    return {
        "phase": phase,
        "bytes_done": bytes_done,
        "bytes_total": bytes_total,
        "heartbeat_at": now,
        "phase_started_at": case((table.phase == phase, table.phase_started_at), else_=now),
    }


def storable(value: Any) -> Any:
    """Replace the characters that PostgreSQL can't store, NULs and lone surrogates, in a text or a list of texts.

    The reason for a failure may quote a dump or a file name, and must not be lost because of them.
    """
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    return [storable(item) for item in value] if isinstance(value, list) else value


def changed(statement: Update) -> bool:
    """Run an UPDATE of one row in a transaction of its own. Return whether it found the row."""
    with db.engine.begin() as connection:
        return connection.execute(statement).rowcount == 1
