"""/api/admin/backups."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from apiflask import APIBlueprint, FileSchema
from flask import Response

from app.api.answers import NO_CONTENT, queued_backup
from app.api.openapi.prose import BINARY, PROBLEM, PROBLEM_SCHEMA
from app.api.schemas.backups import BackupChange, BackupFilters, BackupOut, BackupPage, NewBackup, Verification
from app.api.schemas.common import Located
from app.http.archive_response import send_archive
from app.http.auth import actor, protect, requires
from app.services.backups import backups
from app.services.inputs import Proof

bp = APIBlueprint("api_backups", __name__, url_prefix="/api/admin/backups", tag="Backups")
protect(bp)

DOWNLOADS: dict[int | str, Any] = {
    206: {"description": "The requested range.", "content": {"application/gzip": {"schema": BINARY}}},
    304: {"description": "The archive has the ETag sent in If-None-Match."},
    409: None,
    416: {"description": "The range is outside the archive.", "content": {PROBLEM: {"schema": PROBLEM_SCHEMA}}},
}


@bp.get("")
@requires("read")
@bp.input(BackupFilters, location="query")
@bp.output(BackupPage)
def list_backups(query_data: BackupFilters) -> BackupPage:
    """List the backups, newest first."""
    return BackupPage.of(backups.list_backups(**query_data.model_dump()), BackupOut.of)


@bp.post("")
@requires("backup")
@bp.input(NewBackup)
@bp.output(BackupOut, status_code=202, headers=Located)
@bp.doc(responses=[409])
def create_backup(json_data: NewBackup) -> tuple[BackupOut, int, dict[str, str]]:
    """Start a manual backup. A worker runs it: poll `status` at the URL in Location."""
    row = backups.start(actor(), note=json_data.note)
    return queued_backup(row)


@bp.get("/<uuid:backup_id>")
@requires("read")
@bp.output(BackupOut)
def get_backup(backup_id: UUID) -> BackupOut:
    """Show one backup."""
    return BackupOut.of(backups.get(backup_id))


@bp.patch("/<uuid:backup_id>")
@requires("backup")
@bp.input(BackupChange)
@bp.output(BackupOut)
def change_backup(backup_id: UUID, json_data: BackupChange) -> BackupOut:
    """Pin, unpin or annotate a backup. A browser session must send the admin's password again to unpin."""
    note = json_data.note if "note" in json_data.model_fields_set else backups.UNCHANGED
    changed = backups.update(actor(), backup_id, pinned=json_data.pinned, note=note, password=json_data.password)
    return BackupOut.of(changed)


@bp.delete("/<uuid:backup_id>")
@requires("admin")
@bp.input(Proof)
@bp.output({}, status_code=204)
@bp.doc(responses=[409])
def delete_backup(backup_id: UUID, json_data: Proof) -> tuple[str, int]:
    """Delete a backup and its archive. A browser session must send the admin's password again."""
    backups.delete(actor(), backup_id, json_data.password)
    return NO_CONTENT


@bp.get("/<uuid:backup_id>/download")
@requires("backup")
@bp.output(FileSchema(), content_type="application/gzip", description="The archive.")
@bp.doc(responses=DOWNLOADS)
def download_backup(backup_id: UUID) -> Response:
    """Download the archive. Supports Range, If-Range and If-None-Match; the ETag is the SHA-256."""
    return send_archive(actor(), backup_id)


@bp.post("/<uuid:backup_id>/cancel")
@requires("backup")
@bp.output(BackupOut, status_code=202, description="Cancellation requested.")
@bp.doc(responses=[409])
def cancel_backup(backup_id: UUID) -> tuple[BackupOut, int]:
    """Cancel a queued or running backup."""
    return BackupOut.of(backups.cancel(actor(), backup_id)), 202


@bp.post("/<uuid:backup_id>/verify")
@requires("backup")
@bp.input(Verification)
@bp.output(BackupOut, status_code=202, description="Accepted. A worker does it.")
@bp.doc(responses=[409])
def verify_backup(backup_id: UUID, json_data: Verification) -> tuple[BackupOut, int]:
    """Have a worker verify the archive, or restore it into a scratch database. The result is in `verified_at`,
    `restore_tested_at` or `error`."""
    return BackupOut.of(backups.verify(actor(), backup_id, restore=json_data.restore)), 202
