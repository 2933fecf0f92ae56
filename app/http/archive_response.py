"""Sends an archive, for pages and the API."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response, request, send_file

from app.errors import Conflict, NotFound
from app.runs import locks, transfer_locks
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.backups import backups
from app.services.history import archive_damage


def send_archive(actor: Actor, backup_id: UUID) -> Response:
    """Return a completed backup's archive as a response that supports Range, If-Range and If-None-Match; the ETag is the
    SHA-256. Until it is sent, or the client is gone, no cleanup deletes it. Raise NotFound or Conflict."""
    lock = transfer_locks.acquire(locks.archive_name(backup_id), shared=True)
    if lock is None:
        raise Conflict("This archive is being deleted.", id=str(backup_id))
    try:
        # Looked up under the lock: from now on no cleanup and no deletion takes it away.
        archive = backups.archive_file(backup_id)
        response = send_file(
            archive.path,
            mimetype="application/gzip",
            as_attachment=True,
            download_name=archive.filename,
            conditional=True,
            etag=archive.sha256,
        )
        if request.method == "GET" and response.status_code in (200, 206):
            detail = {"filename": archive.filename}
            audit.record_download(actor, "backup.downloaded", backup_id, detail, resumed=response.status_code == 206)
    except FileNotFoundError as error:
        lock.release()
        raise NotFound(archive_damage.gone(archive.filename)) from error
    except BaseException:
        lock.release()
        raise
    _at_end(response, lock)
    return response


def _at_end(response: Response, lock: transfer_locks.TransferLock) -> None:
    """Release the lock when the server closes what it sends. The file's own wrapper is kept, since servers look for its
    type to use sendfile; a response that is passed through directly calls no function of its own at its end."""
    body: Any = response.response
    close = body.close

    def close_and_release() -> None:
        try:
            close()
        finally:
            lock.release()

    body.close = close_and_release
