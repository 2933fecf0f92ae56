"""The rules for starting, stopping, changing and deleting backups."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import Enum
from pathlib import Path
from uuid import UUID

from sqlalchemy import func, or_, select

from app.errors import Conflict, InvalidInput, NotFound, Unavailable
from app.extensions import db
from app.models import BackupHistory, utcnow
from app.models.backup_history import KINDS, LIVE, STATUSES
from app.runs import ledger, locks, queue, verification_steps
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.backups import upload_check
from app.services.backups.progress import ProgressView, progress
from app.services.history import archive_damage, figures, retention_plan
from app.services.installation.storage import storage
from app.services.paging import LARGEST_PAGE, Page
from app.services.people import reauthentication
from app.services.schedules import due_slots, slot_list

__all__ = [
    "UNCHANGED",
    "ArchiveFile",
    "BackupHistory",
    "ProgressView",
    "archive_file",
    "cancel",
    "delete",
    "get",
    "list_backups",
    "progress",
    "remove_partials",
    "rest",
    "start",
    "update",
    "verify",
]

NOTE_LENGTH = 2000
GONE = "There is no such backup. It may have been deleted."


class Unchanged(Enum):
    """The type of a value that was not given, where None means "empty"."""

    UNCHANGED = "unchanged"


UNCHANGED = Unchanged.UNCHANGED


@dataclass(frozen=True)
class ArchiveFile:
    """A completed backup's file for download: its size in bytes, its SHA-256 in hexadecimal."""

    path: Path
    filename: str
    size_bytes: int
    sha256: str


def list_backups(  # noqa: PLR0913, PLR0917 - a filter or an answer of a form each
    page: int = 1,
    page_size: int = 50,
    status: str | None = None,
    kind: str | None = None,
    schedule_id: UUID | None = None,
    text: str | None = None,
    since: date | None = None,
    until: date | None = None,
) -> Page[BackupHistory]:
    """Return a page of backups, newest first; pages count from 1 and hold up to 100. `schedule_id` selects backups that fill
    any of its slots, `text` searches note and file name, `since` and `until` are days in UTC, both inclusive.

    Raise InvalidInput.
    """
    _check_filters(page, page_size, status, kind)
    chosen = select(BackupHistory)
    for column, value in ((BackupHistory.status, status), (BackupHistory.kind, kind)):
        if value is not None:
            chosen = chosen.where(column == value)
    if schedule_id is not None:
        chosen = chosen.where(slot_list.belongs_to(schedule_id))
    # PostgreSQL accepts no NUL in a text.
    if text and (text := text.replace("\0", "")):
        found_in = (BackupHistory.note, BackupHistory.filename)
        chosen = chosen.where(or_(*(column.icontains(text, autoescape=True) for column in found_in)))
    if since is not None:
        chosen = chosen.where(BackupHistory.created_at >= datetime.combine(since, time(), UTC))
    if until is not None:
        chosen = chosen.where(BackupHistory.created_at <= datetime.combine(until, time.max, UTC))
    total = db.session.scalar(select(func.count()).select_from(chosen.subquery())) or 0
    newest = chosen.order_by(BackupHistory.created_at.desc(), BackupHistory.id.desc())
    items = list(db.session.scalars(newest.limit(page_size).offset((page - 1) * page_size)))
    return Page(items, page, page_size, total)


def get(backup_id: UUID) -> BackupHistory:
    """Read a backup afresh from the database. Raise NotFound."""
    row = db.session.get(BackupHistory, backup_id, populate_existing=True)
    if row is None:
        raise NotFound(GONE)
    return row


def start(actor: Actor, note: str | None = None) -> BackupHistory:
    """Queue a manual backup and return its row.

    Raise InvalidInput; Conflict with the `id` of a manual backup that is queued or running; Unavailable.
    """
    note = _checked_note(note)
    locks.in_transaction(locks.START)
    running = db.session.scalar(
        select(BackupHistory).where(BackupHistory.kind == "manual", BackupHistory.status.in_(LIVE)).limit(1)
    )
    if running is not None:
        word = "queued" if running.status == "queued" else "running"
        db.session.rollback()
        raise Conflict(f"A manual backup is already {word}. Wait until it has finished, or cancel it.", id=str(running.id))
    row = ledger.backups.open(actor.name, kind="manual", note=note)
    audit.record(actor, "backup.started", "backup", row.id, {"note": note} if note else None)
    db.session.commit()
    try:
        queue.enqueue(queue.BACKUPS, queue.BACKUP_JOB, row.id, ledger.backups.job_id(row.id))
    except queue.QueueUnavailable as error:
        ledger.backups.fail_queued(row.id, str(error))
        raise Unavailable(str(error), id=str(row.id)) from error
    ledger.backups.mark_enqueued(row.id)
    return get(row.id)


def cancel(actor: Actor, backup_id: UUID) -> BackupHistory:
    """Cancel a queued or running backup, or an upload that is not checked yet, and return its row. A running one stops at
    its next heartbeat.

    Raise NotFound or Conflict.
    """
    row = get(backup_id)
    if ledger.backups.cancel_queued(backup_id):
        queue.forget(queue.BACKUPS, ledger.backups.job_id(backup_id))
    elif not upload_check.cancel_waiting(backup_id, row.attempt) and not ledger.backups.request_cancel(backup_id):
        raise Conflict(f"This backup is {get(backup_id).status}: there is nothing to cancel.", id=str(row.id))
    audit.record(actor, "backup.cancelled", "backup", backup_id)
    db.session.commit()
    return get(backup_id)


def update(
    actor: Actor,
    backup_id: UUID,
    *,
    pinned: bool | None = None,
    note: str | Unchanged | None = UNCHANGED,
    password: str | None = None,
) -> BackupHistory:
    """Pin or unpin a backup (None: no change), or change its note (None: remove it). Return its row.

    Unpinning lets a cleanup delete it, so an admin with a session gives the password again. Raise NotFound, InvalidInput,
    Throttled or Unauthenticated.
    """
    checked = note if isinstance(note, Unchanged) else _checked_note(note)
    if pinned is False and get(backup_id).pinned:
        reauthentication.require(actor, password)
    # A concurrent deletion finishes first, or waits for us.
    chosen = select(BackupHistory).where(BackupHistory.id == backup_id).with_for_update()
    row = db.session.scalar(chosen.execution_options(populate_existing=True))
    if row is None:
        raise NotFound(GONE)
    changes: dict[str, bool | str | None] = {}
    if pinned is not None and pinned != row.pinned:
        row.pinned = changes["pinned"] = pinned
    if not isinstance(checked, Unchanged) and checked != row.note:
        row.note = changes["note"] = checked
    if changes:
        audit.record(actor, "backup.changed", "backup", backup_id, changes)
    db.session.commit()
    if "pinned" in changes:
        retention_plan.refresh()
    return get(backup_id)


def delete(actor: Actor, backup_id: UUID, password: str | None = None) -> None:
    """Remove the file, then the row, of a backup that is neither queued nor running nor being read.

    An admin with a session gives the password again. Raise NotFound, InvalidInput, Throttled, Unauthenticated, or Conflict
    with the reason, in which case the row stays.
    """
    row = get(backup_id)
    reauthentication.require(actor, password)
    row = get(backup_id)
    if row.status in LIVE:
        raise Conflict("This backup has not finished. Cancel it first.", id=str(row.id))
    # Its slots count as filled, although it is deleted.
    due_slots.settle(utcnow())
    row = get(backup_id)
    restore = ledger.restores.live()
    if restore is not None and restore.backup_id == backup_id:
        raise Conflict("This backup is about to be restored. Wait until that has finished.", id=str(row.id))
    with locks.holding(locks.archive_name(backup_id)) as lock:
        if lock is None:
            raise Conflict("This archive is in use. Try again when that has finished.", id=str(backup_id))
        chosen = select(BackupHistory).where(BackupHistory.id == backup_id).with_for_update()
        found = db.session.scalar(chosen.execution_options(populate_existing=True))
        if found is None:
            raise NotFound(GONE)
        row = found
        if row.status in LIVE:
            db.session.rollback()
            raise Conflict("This backup has been started again. Cancel it first.", id=str(backup_id))
        try:
            if row.filename:
                storage().delete(row.filename)
            storage().remove_partials(backup_id)
        except OSError as error:
            row.error = f"The archive could not be deleted: {error.strerror}."
            db.session.commit()
            raise Conflict(f"{row.error} Check the rights of BACKUP_STORAGE_DIR.", id=str(row.id)) from error
        audit.record(actor, "backup.deleted", "backup", row.id, figures.remembered(row))
        db.session.delete(row)
        db.session.commit()
    retention_plan.refresh()


def verify(actor: Actor, backup_id: UUID, restore: bool = False) -> BackupHistory:
    """Request the verification of a completed backup by a worker, and return its row. `restore`: also restore it into a
    scratch database.

    Raise NotFound, Conflict or Unavailable.
    """
    row = get(backup_id)
    if row.status != "completed":
        raise Conflict(f"This backup is {row.status}: there is no archive to verify.", id=str(row.id))
    if restore and row.origin != "own":
        raise Conflict(
            "This archive is not signed by this installation: its SQL is not executed for a test.", id=str(row.id)
        )
    archive_file(backup_id, damaged=True)
    if not verification_steps.request(backup_id, restore):
        get(backup_id)
        raise Conflict("This backup is being verified already.", id=str(backup_id))
    audit.record(actor, "backup.verify", "backup", backup_id, {"restore": True} if restore else None)
    db.session.commit()
    try:
        queue.enqueue(queue.BACKUPS, queue.VERIFY_JOB, backup_id, verification_steps.job_id(backup_id))
    except queue.QueueUnavailable as error:
        verification_steps.abandon(backup_id)
        raise Unavailable(str(error)) from error
    return get(backup_id)


def archive_file(backup_id: UUID, damaged: bool = False) -> ArchiveFile:
    """Return a completed backup's file. `damaged`: also one that a verification found damaged, if its size is unchanged.

    Raise NotFound, or Conflict with what is wrong.
    """
    row = get(backup_id)
    if row.status != "completed" or not row.filename or row.size_bytes is None or row.sha256 is None:
        raise Conflict(f"This backup is {row.status}: there is no archive to download.", id=str(row.id))
    try:
        facts = archive_damage.look_at(row.filename)
    except OSError as error:
        raise Unavailable(
            f"{row.filename} can't be accessed ({error.strerror}). Check BACKUP_STORAGE_DIR.", id=str(row.id)
        ) from error
    problem = archive_damage.problem(row.filename, row.size_bytes, facts)
    if facts is None and problem:
        raise NotFound(problem)
    if problem or (row.damaged and not damaged):
        raise Conflict(
            f"This archive is damaged: {problem or row.damaged} If no better one is left, copy the file from the storage "
            "folder: `tar xzf` unpacks what can still be read.",
            id=str(row.id),
        )
    return ArchiveFile(storage().local_path(row.filename), row.filename, row.size_bytes, row.sha256)


def remove_partials(backup_id: UUID) -> None:
    """Remove the partial files of a backup that has stopped writing."""
    storage().remove_partials(backup_id)


def rest() -> None:
    """Return the session's connection to the pool, for callers that poll."""
    db.session.rollback()


def _checked_note(note: str | None) -> str | None:
    note = (note or "").strip()
    if len(note) > NOTE_LENGTH:
        raise InvalidInput({"note": f"Use at most {NOTE_LENGTH} characters."})
    return note or None


def _check_filters(page: int, page_size: int, status: str | None, kind: str | None) -> None:
    problems = {}
    if page < 1:
        problems["page"] = "Pages count from 1."
    if not 1 <= page_size <= LARGEST_PAGE:
        problems["page_size"] = f"Choose from 1 to {LARGEST_PAGE}."
    if status is not None and status not in STATUSES:
        problems["status"] = f"Choose from {', '.join(STATUSES)}."
    if kind is not None and kind not in KINDS:
        problems["kind"] = f"Choose from {', '.join(KINDS)}."
    if problems:
        raise InvalidInput(problems)
