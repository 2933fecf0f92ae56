"""/api/admin/backups/upload."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import request

from app.api.answers import queued_backup
from app.api.schemas.backups import BackupOut, UploadQuery
from app.api.schemas.common import Located
from app.http.auth import actor, protect, requires
from app.http.request import streams_its_body
from app.services.backups import uploads

bp = APIBlueprint("api_uploads", __name__, url_prefix="/api/admin/backups", tag="Backups")
protect(bp)


@bp.post("/upload")
@requires("backup")
@streams_its_body
@bp.input(UploadQuery, location="query")
@bp.output(BackupOut, status_code=202, headers=Located)
@bp.doc(responses=[409, 413, 415, 507])
def upload_backup(query_data: UploadQuery) -> tuple[BackupOut, int, dict[str, str]]:
    """Upload an archive, as the body (application/gzip) or as the file of a multipart form. A worker checks it: poll
    `status` at the URL in Location until it is `completed`, and pinned, or `failed` with the reason in `error`."""
    length = request.content_length
    row = uploads.receive(actor(), request.stream, request.content_type or "", length, query_data.note)
    return queued_backup(row)
