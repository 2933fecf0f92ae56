"""Check a received upload in a worker: read every byte, then publish it under its name, or refuse it."""

from __future__ import annotations

import hashlib
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import select

from app import current
from app.engine.errors import EngineError
from app.engine.progress import Progress
from app.engine.proof.check_archive import ArchiveCheck, check_archive
from app.engine.storage.interface import parts_of
from app.extensions import db
from app.models import BackupHistory, utcnow
from app.runs import ledger, locks, queue, upload_steps
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.history.figures import of_upload
from app.services.installation.storage import storage

# A worker may be lost during a check for another reason, so the check is retried once.
ATTEMPTS = 2
READ_BYTES = 1024 * 1024
LOST = (
    "The worker was lost each time it checked this archive (killed, out of memory, or its machine went down), so it is not"
    " taken in. Look into the worker's log before you send it again."
)
CHECK = Actor.system("upload check")


class Refused(Exception):
    """The archive is refused. str() says why."""


def enqueue(upload_id: UUID, attempts: int = 0) -> None:
    """Enqueue the check of an upload; `attempts` were made before. Raise QueueUnavailable."""
    queue.enqueue(queue.CHECKS, queue.CHECK_JOB, upload_id, upload_steps.check_job_id(upload_id, attempts))
    upload_steps.mark_check_enqueued(upload_id)


def enqueue_forgotten(before: datetime) -> None:
    """Enqueue again the checks that have waited since before that time and that Redis has lost. Raise redis.RedisError or
    QueueUnavailable."""
    waiting = select(BackupHistory).where(*upload_steps.waits_for_check()).order_by(BackupHistory.created_at)
    for row in db.session.scalars(waiting.execution_options(populate_existing=True)).all():
        recent = (row.enqueued_at or row.created_at) > before
        if not recent and not queue.knows(queue.CHECKS, upload_steps.check_job_id(row.id, row.attempt)):
            enqueue(row.id, row.attempt)


def enqueue_next() -> None:
    """Enqueue the check of the upload that has waited longest, if its job had found another check running. Raise
    redis.RedisError or QueueUnavailable."""
    waiting = select(BackupHistory).where(*upload_steps.waits_for_check()).order_by(BackupHistory.created_at).limit(1)
    row = db.session.scalar(waiting.execution_options(populate_existing=True))
    if row is not None and not queue.knows(queue.CHECKS, upload_steps.check_job_id(row.id, row.attempt)):
        enqueue(row.id, row.attempt)


def check(row: BackupHistory, attempt: int, progress: Progress) -> str:
    """Check a claimed upload's file, publish it and complete its row. Return the file's name.

    Raise Refused, ledger.Lost, or what `progress` raises.
    """
    row_id, sha256 = row.id, row.sha256
    partial = _partial(row_id)
    db.session.rollback()
    try:
        found = check_archive(partial, current.settings().signing_key, progress)
    except EngineError as error:
        raise Refused(_useless(str(error), partial)) from error
    except FileNotFoundError as error:
        raise Refused("The uploaded file is no longer in the storage folder. Send it again.") from error
    if not found.ok:
        raise Refused(_useless("; ".join(found.problems), partial))
    if found.sha256 != sha256:
        raise Refused("The file on the disk differs from what was sent. Check the disk, then send the archive again.")
    columns = _columns(found)
    # Nobody lists the same archive between our check and the publication.
    locks.in_transaction(locks.UPLOAD)
    try:
        first = same_archive(found.sha256, but=row_id)
        if first is not None:
            raise Refused(f"{here_already(first)} Its id is {first.id}.")
        if not upload_steps.record_check(row_id, attempt, **columns):
            raise ledger.Lost("The upload's row was closed while its archive was being checked.")
        try:
            filename = storage().publish(partial, current.settings().app_name, columns["started_at"])
        except EngineError as error:
            raise Refused(_useless(str(error), partial)) from error
        if not ledger.backups.complete(row_id, attempt, filename=filename):
            storage().delete(filename)
            raise ledger.Lost("The upload's row was closed while its archive was being published.")
    finally:
        db.session.rollback()
    detail = {"filename": filename, "sha256": found.sha256, "origin": columns["origin"]}
    audit.record(CHECK, "backup.upload_accepted", "backup", row_id, detail)
    db.session.commit()
    return filename


def refuse(row_id: UUID, attempt: int, reason: str) -> None:
    """Close an upload as failed, and remove its file."""
    if ledger.backups.fail(row_id, attempt, reason):
        _note("backup.upload_refused", row_id, {"reason": reason})
    storage().remove_partials(row_id)


def close_lost(row: BackupHistory) -> bool:
    """Settle an upload whose worker is gone: completed if its file was published, cancelled if that was requested, otherwise
    checked once more, and failed after that. Return False if the row has moved on."""
    row_id, attempt = row.id, row.attempt
    filename = _published(row)
    if filename is not None:
        return ledger.backups.complete(row_id, attempt, filename=filename)
    if row.cancel_requested_at is not None:
        closed = ledger.backups.cancel_running(row_id, attempt)
    elif attempt < ATTEMPTS:
        return upload_steps.check_again(row_id, attempt)
    else:
        closed = ledger.backups.fail(row_id, attempt, LOST)
        if closed:
            _note("backup.upload_refused", row_id, {"reason": LOST})
    if closed:
        storage().remove_partials(row_id)
    return closed


def cancel_waiting(upload_id: UUID, attempts: int) -> bool:
    """Cancel an upload that no worker has claimed, and remove its file. Return False if one has."""
    if not upload_steps.cancel_waiting(upload_id):
        return False
    queue.forget(queue.CHECKS, upload_steps.check_job_id(upload_id, attempts))
    storage().remove_partials(upload_id)
    return True


def same_archive(sha256: str, but: UUID | None = None) -> BackupHistory | None:
    """Return the oldest backup with the same content that is stored or being checked, excluding one, or None."""
    there = BackupHistory.status.in_(("completed", "in_progress"))
    same = select(BackupHistory).where(BackupHistory.sha256 == sha256, there, BackupHistory.id != but)
    return db.session.scalar(same.order_by(BackupHistory.created_at).limit(1))


def here_already(first: BackupHistory) -> str:
    """Return the message that names the first of two identical archives."""
    if first.filename:
        return f"This archive already exists, as {first.filename}."
    return "This archive was sent already and is being checked."


def _columns(found: ArchiveCheck) -> dict[str, Any]:
    """Return the row's columns, without those that were set when the archive arrived."""
    columns = of_upload(found, utcnow())
    return {name: value for name, value in columns.items() if name not in ("created_at", "pinned", "kind")}


def _published(row: BackupHistory) -> str | None:
    """Return the file name of an upload whose worker was lost, if its archive had been published."""
    if row.started_at is None:
        return None
    listed = set(db.session.scalars(select(BackupHistory.filename).where(BackupHistory.filename.is_not(None))))
    for filename in storage().archives(current.settings().app_name):
        with suppress(FileNotFoundError):
            found = storage().stat(filename)
            if filename not in listed and found and found.size == row.size_bytes and _sha256(filename) == row.sha256:
                return filename
    return None


def _sha256(filename: str) -> str:
    digest = hashlib.sha256()
    with closing(storage().open(filename)) as blob:
        for part in parts_of(blob, READ_BYTES):
            digest.update(part)
    return digest.hexdigest()


def _partial(upload_id: UUID) -> Path:
    return storage().partial_path(upload_id, 1)


def _useless(problem: str, partial: Path) -> str:
    """Return the problem without the partial file's name, which means nothing to a user."""
    problem = problem.replace(str(partial), "the file").replace(f" {partial.name}", "")
    return current.settings().redact(f"This file was refused: {problem}")


def _note(action: str, upload_id: UUID, detail: dict[str, Any]) -> None:
    audit.record(CHECK, action, "backup", upload_id, detail)
    db.session.commit()
