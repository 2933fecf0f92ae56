"""Taking in an archive from elsewhere: streamed to the disk in constant memory, checked to its last byte, then listed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO
from uuid import UUID, uuid4

from flask import current_app
from sqlalchemy import select

from app import engine, ledger, locks
from app.config import Settings
from app.errors import Conflict, InvalidInput, NoRoom, TooLarge
from app.extensions import db
from app.models import BackupHistory, utcnow
from app.services import audit
from app.services.actor import Actor
from app.services.figures import of_upload
from app.services.upload_body import Broken, parts_of

READ_BYTES = 1024 * 1024
LOOK_AT_DISK_EVERY = 64 * 1024 * 1024
FORM_BYTES = 64 * 1024


def receive(
    actor: Actor, stream: IO[bytes], content_type: str, length: int | None, note: str | None = None
) -> BackupHistory:
    """Given who sends it, the request's body (the archive itself, or a multipart form with one file), its Content-Type and
    its length in bytes if that was said, take the archive in and return its row: completed and pinned.

    Whatever goes wrong, nothing is left behind. Raise UnknownType, InvalidInput, TooLarge, NoRoom, or Conflict with the
    `id` of the same archive.
    """
    storage = _settings().storage_dir
    storage.mkdir(mode=0o700, parents=True, exist_ok=True)
    upload_id = uuid4()
    partial = engine.partial_path(storage, upload_id, 1)
    parts = parts_of(stream, content_type, READ_BYTES)
    _check_size(length)
    # The tick removes partial files that nobody writes: this lock says that somebody does.
    with locks.holding(locks.run_name(upload_id)):
        try:
            written = _Written(partial)
            try:
                for part in parts:
                    written.add(part)
                written.finish()
            finally:
                written.close()
            return _take_in(actor, upload_id, partial, written, note)
        except Broken as error:
            raise InvalidInput({"file": str(error)}, str(error)) from error
        finally:
            partial.unlink(missing_ok=True)


def published(row: BackupHistory) -> Path | None:
    """Given the row of an upload whose process was lost, return its archive if that has got its name already."""
    storage = _settings().storage_dir
    listed = set(db.session.scalars(select(BackupHistory.filename).where(BackupHistory.filename.is_not(None))))
    for path in engine.list_archives(storage, _settings().app_name) if storage.is_dir() else []:
        with suppress(FileNotFoundError):
            if path.name not in listed and path.stat().st_size == row.size_bytes and _sha256(path) == row.sha256:
                return path
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Written:
    """The partial file, while it grows: never beyond the size limit or into the disk's reserve."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600), "wb", buffering=0
        )
        self._digest = hashlib.sha256()
        self._look_again = 0
        self.size = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def add(self, part: bytes) -> None:
        """Write a part. Raise TooLarge or NoRoom."""
        self.size += len(part)
        _check_limit(self.size)
        if self.size > self._look_again:
            _check_room(len(part))
            self._look_again = self.size + LOOK_AT_DISK_EVERY
        self._digest.update(part)
        view = memoryview(part)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise _full(error) from error

    def finish(self) -> None:
        """Make the file durable. Raise InvalidInput if nothing came."""
        if not self.size:
            raise InvalidInput({"file": "Nothing was sent."}, "Nothing was sent: choose the archive's file.")
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _full(error) from error

    def close(self) -> None:
        self._file.close()


def _take_in(actor: Actor, upload_id: UUID, partial: Path, written: _Written, note: str | None) -> BackupHistory:
    """Given the whole file, check it, list it and name it. Where we die between the two, the tick finds its file."""
    _refuse_duplicate(written.sha256)
    db.session.rollback()
    try:
        check = engine.check_archive(partial, _settings().signing_key)
    except engine.EngineError as error:
        raise _useless(str(error), partial) from error
    if not check.ok:
        raise _useless("; ".join(check.problems), partial)
    if check.sha256 != written.sha256:
        raise _useless("what was written to the disk is not what was sent; send it again.", partial)
    locks.in_transaction(locks.UPLOAD)
    _refuse_duplicate(written.sha256)
    columns = of_upload(check, utcnow())
    ledger.open_upload(upload_id, actor.name, (note or "").strip()[:2000] or None, **columns)
    db.session.commit()
    moment = check.manifest.started_at if check.manifest else utcnow()
    try:
        path = engine.publish_archive(partial, _settings().app_name, moment)
    except engine.EngineError as error:
        ledger.drop_upload(upload_id)
        raise Conflict(str(error).replace(partial.name, "the file")) from error
    if not ledger.complete(upload_id, ledger.UPLOADING, filename=path.name):
        path.unlink(missing_ok=True)
        raise Conflict("Taking in this archive took so long that it was given up. Send it again.")
    detail = {"filename": path.name, "sha256": check.sha256, "origin": columns["origin"]}
    audit.record(actor, "backup.uploaded", "backup", upload_id, detail)
    db.session.commit()
    row = db.session.get(BackupHistory, upload_id, populate_existing=True)
    if row is None:
        raise Conflict("This archive was deleted as soon as it had come in.")
    return row


def _refuse_duplicate(sha256: str) -> None:
    there = BackupHistory.status.in_(("completed", "in_progress"))
    same = select(BackupHistory).where(BackupHistory.sha256 == sha256, there)
    row = db.session.scalar(same.order_by(BackupHistory.created_at).limit(1))
    if row is not None:
        row_id, name = str(row.id), row.filename
        db.session.rollback()
        sentence = f"This archive is here already, as {name}." if name else "This archive is being taken in just now."
        raise Conflict(sentence, id=row_id)


def _check_size(length: int | None) -> None:
    """Refuse at once what is said to be too large; a form may be longer than its file by FORM_BYTES."""
    if length is not None:
        _check_limit(length - FORM_BYTES)
        _check_room(length)


def _check_limit(size_bytes: int) -> None:
    limit = _settings().upload_max_bytes
    if limit is not None and size_bytes > limit:
        raise TooLarge(f"The archive is larger than the {limit:,} bytes that BACKUP_UPLOAD_MAX_BYTES allows.")


def _check_room(more_bytes: int) -> None:
    free, reserve = shutil.disk_usage(_settings().storage_dir).free, engine.DISK_RESERVE
    if free < more_bytes + reserve:
        raise NoRoom(
            f"The disk of BACKUP_STORAGE_DIR has {free // 1_000_000} MB left, of which {reserve // 1_000_000} MB stay free: "
            "too little for this archive. Free some room, then send it again."
        )


def _full(error: OSError) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return NoRoom("The disk of BACKUP_STORAGE_DIR is full. Free some room, then send the archive again.")
    return error


def _useless(problem: str, partial: Path) -> InvalidInput:
    """Given what is wrong, return it as an error that does not name the partial file, which nobody knows."""
    problem = problem.replace(str(partial), "the file").replace(f" {partial.name}", "")
    detail = f"This file can't be taken in: {problem}"
    return InvalidInput({"file": problem}, _settings().redact(detail))


def _settings() -> Settings:
    settings: Settings = current_app.config["SETTINGS"]
    return settings
