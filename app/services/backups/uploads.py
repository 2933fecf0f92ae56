"""Receive an archive from elsewhere: stream it to the disk in constant memory, list it, and leave the check to a worker."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO
from uuid import UUID, uuid4

import structlog
from redis.exceptions import RedisError
from sqlalchemy import func, select

from app import current, turns
from app.engine.backup.backup import DISK_RESERVE
from app.engine.storage.partial_file import PartialFile
from app.errors import Conflict, InvalidInput, NotEnoughSpace, Throttled, TooLarge
from app.extensions import db
from app.models import BackupHistory
from app.runs import locks, transfer_locks, upload_steps
from app.runs.queue import QueueUnavailable
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.backups import upload_check
from app.services.backups.upload_body import Broken, parts_of
from app.services.installation.storage import storage

logger = structlog.get_logger(__name__)

READ_BYTES = 1024 * 1024
LOOK_AT_DISK_EVERY = 64 * 1024 * 1024
FORM_BYTES = 64 * 1024
# How many uploads a web process receives at once: each takes a thread for as long as its client takes to send it.
MOST_RECEIVED = 8
TURN_SECONDS = 5.0
SOON_SECONDS = 10
# How many uploads may wait for their check or be checked; each occupies disk space meanwhile.
MOST_WAITING = 50
LATER_SECONDS = 60
_turns = threading.BoundedSemaphore(MOST_RECEIVED)


def receive(
    actor: Actor, stream: IO[bytes], content_type: str, length: int | None, note: str | None = None
) -> BackupHistory:
    """Write a request's body (the archive itself, or a multipart form with one file) to the disk, and return its row: in
    progress, until a worker has checked it. `length` is the body's size in bytes, if known.

    Whatever goes wrong, nothing is left behind. Raise UnknownType, InvalidInput, TooLarge, NotEnoughSpace, Throttled, or
    Conflict with the `id` of the same archive.
    """
    parts = parts_of(stream, content_type, length, READ_BYTES)
    upload_id = uuid4()
    with _turn():
        _receive(actor, upload_id, parts, length, note)
    try:
        upload_check.enqueue(upload_id)
    except (QueueUnavailable, RedisError):
        # The file is durable and the row records it: the minute tick enqueues the job once Redis is back.
        logger.warning("queue unavailable; the next tick retries", backup_id=str(upload_id))
    row = db.session.get(BackupHistory, upload_id, populate_existing=True)
    if row is None:
        raise Conflict("This archive was deleted as soon as it had arrived.")
    return row


@contextmanager
def _turn() -> Iterator[None]:
    # Hold no database connection while waiting.
    db.session.rollback()
    with turns.waiting():
        free = _turns.acquire(timeout=TURN_SECONDS)
    if not free:
        raise Throttled(
            f"{MOST_RECEIVED} archives are being received already. Send this one when they have arrived.", SOON_SECONDS
        )
    try:
        yield
    finally:
        _turns.release()


def _receive(actor: Actor, upload_id: UUID, parts: Iterator[bytes], length: int | None, note: str | None) -> None:
    storage().prepare()
    # The tick removes partial files that nobody writes; this lock shows that somebody does.
    with transfer_locks.holding(locks.run_name(upload_id)):
        written = None
        try:
            written = _admit(upload_id, length)
            for part in parts:
                written.add(part)
            written.finish()
            _list(actor, upload_id, written, note)
        except BaseException as error:
            db.session.rollback()
            storage().remove_partial(upload_id, 1)
            if isinstance(error, Broken):
                raise InvalidInput({"file": str(error)}, str(error)) from error
            raise
        finally:
            if written is not None:
                written.close()


def _admit(upload_id: UUID, length: int | None) -> _Written:
    """Open the partial file and reserve the disk space that its upload needs. One at a time, so that no two uploads are
    promised the same space. Raise TooLarge, NotEnoughSpace or Throttled."""
    if length is not None:
        # A form is slightly longer than its file.
        _check_limit(length - FORM_BYTES)
    locks.in_transaction(locks.UPLOAD)
    waiting = select(func.count()).where(BackupHistory.kind == "uploaded", BackupHistory.status == "in_progress")
    if (db.session.scalar(waiting) or 0) >= MOST_WAITING:
        raise Throttled(
            f"{MOST_WAITING} uploads are already waiting for their check. Send this one when some are done or cancelled.",
            LATER_SECONDS,
        )
    _check_room(length or 0)
    written = _Written(storage().new_partial(upload_id, 1))
    if length is not None:
        written.reserve(length)
    db.session.rollback()
    return written


class _Written:
    """The growing partial file, kept within the size limit and out of the disk's reserve."""

    def __init__(self, file: PartialFile) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._look_again = 0
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def reserve(self, length: int) -> None:
        """Reserve disk space now, if the file system can, so that uploads and backups that begin later see what is really
        left."""
        if self._file.reserve(length):
            self._look_again = length

    def add(self, part: bytes) -> None:
        """Write a part. Raise TooLarge or NotEnoughSpace."""
        self.size += len(part)
        _check_limit(self.size)
        if self.size > self._look_again:
            _check_room(len(part))
            self._look_again = self.size + LOOK_AT_DISK_EVERY
        self._digest.update(part)
        try:
            self._file.write(part)
        except OSError as error:
            raise _full(error) from error

    def finish(self) -> None:
        """Make the file and its name durable. Raise InvalidInput if nothing arrived."""
        if not self.size:
            raise InvalidInput({"file": "Nothing was sent."}, "Nothing was sent: choose the archive's file.")
        try:
            self._file.sync()
        except OSError as error:
            raise _full(error) from error

    def close(self) -> None:
        self._file.close()


def _list(actor: Actor, upload_id: UUID, written: _Written, note: str | None) -> None:
    """Add the row of a completely received file. Raise Conflict if the same archive already exists."""
    locks.in_transaction(locks.UPLOAD)
    first = upload_check.same_archive(written.sha256)
    if first is not None:
        raise Conflict(upload_check.here_already(first), id=str(first.id))
    upload_steps.open_upload(upload_id, actor.name, (note or "").strip()[:2000] or None, written.size, written.sha256)
    detail = {"sha256": written.sha256, "size_bytes": written.size}
    audit.record(actor, "backup.uploaded", "backup", upload_id, detail)
    db.session.commit()


def _check_limit(size_bytes: int) -> None:
    limit = current.settings().upload_max_bytes
    if limit is not None and size_bytes > limit:
        raise TooLarge(f"The archive is larger than the {limit:,} bytes that BACKUP_UPLOAD_MAX_BYTES allows.")


def _check_room(more_bytes: int) -> None:
    free, reserve = storage().free_space(), DISK_RESERVE
    if free < more_bytes + reserve:
        raise NotEnoughSpace(
            f"The disk of BACKUP_STORAGE_DIR has {free // 1_000_000} MB left, of which {reserve // 1_000_000} MB are "
            "reserved: too little for this archive. Free some space, then send it again."
        )


def _full(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NotEnoughSpace("The disk of BACKUP_STORAGE_DIR is full. Free some space, then send the archive again.")
    return error
