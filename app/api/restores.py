"""/api/admin/backups: previewing, running and undoing restores."""

from __future__ import annotations

from uuid import UUID

from apiflask import APIBlueprint
from flask import url_for

from app.api.schemas.backups import BackupOut
from app.api.schemas.common import Located, Paging
from app.api.schemas.restores import (
    PreviewIn,
    PreviewOut,
    RestoreChoice,
    RestoreIn,
    RestoreOut,
    RestorePage,
    TrustIn,
    UndoIn,
)
from app.errors import NotFound
from app.http.auth import actor, protect, requires
from app.services.restores import restore_list, restores

bp = APIBlueprint("api_restores", __name__, url_prefix="/api/admin/backups", tag="Restores")
protect(bp)


@bp.post("/<uuid:backup_id>/restore/preview")
@requires("restore")
@bp.input(PreviewIn)
@bp.output(PreviewOut)
@bp.doc(responses=[409])
def preview_restore(backup_id: UUID, json_data: PreviewIn) -> PreviewOut:
    """Preview what a restore would change, without changing anything."""
    return PreviewOut.of(restores.preview(backup_id, json_data.scope, json_data.exact))


@bp.post("/<uuid:backup_id>/restore")
@requires("restore")
@bp.input(RestoreIn)
@bp.output(RestoreOut, status_code=202, headers=Located)
@bp.doc(responses=[409])
def start_restore(backup_id: UUID, json_data: RestoreIn) -> tuple[RestoreOut, int, dict[str, str]]:
    """Restore a backup. A worker runs it: poll the URL in Location."""
    row = restores.start(actor(), backup_id, **json_data.model_dump())
    return RestoreOut.of(row), 202, {"Location": url_for("api_restores.restore_status")}


@bp.get("/restore/status")
@requires("read")
@bp.output(RestoreOut)
@bp.doc(responses=[404])
def restore_status() -> RestoreOut:
    """Show the running or the latest restore."""
    row = restores.status()
    if row is None:
        raise NotFound("No restore has been made yet.")
    return RestoreOut.of(row)


@bp.get("/restores")
@requires("read")
@bp.input(Paging, location="query")
@bp.output(RestorePage)
def list_restores(query_data: Paging) -> RestorePage:
    """List the restores, newest first."""
    return RestorePage.of(restore_list.list_restores(query_data.page, query_data.page_size), RestoreOut.of)


@bp.get("/restores/<uuid:restore_id>")
@requires("read")
@bp.output(RestoreOut)
def get_restore(restore_id: UUID) -> RestoreOut:
    """Show one restore."""
    return RestoreOut.of(restores.get(restore_id))


@bp.post("/restore/cancel")
@requires("restore")
@bp.input(RestoreChoice)
@bp.output(RestoreOut, status_code=202, description="Cancellation requested.")
@bp.doc(responses=[404, 409])
def cancel_restore(json_data: RestoreChoice) -> tuple[RestoreOut, int]:
    """Cancel a queued or running restore, before its swap."""
    return RestoreOut.of(restores.cancel(actor(), json_data.restore_id)), 202


@bp.post("/restore/undo")
@requires("restore")
@bp.input(UndoIn)
@bp.output(RestoreOut)
@bp.doc(responses=[404, 409])
def undo_restore(json_data: UndoIn) -> RestoreOut:
    """Swap the live state and the one before the restore; a second undo swaps them back."""
    return RestoreOut.of(restores.undo(actor(), json_data.restore_id, json_data.password))


@bp.post("/<uuid:backup_id>/trust")
@requires("admin")
@bp.input(TrustIn)
@bp.output(BackupOut)
@bp.doc(responses=[409])
def trust_backup(backup_id: UUID, json_data: TrustIn) -> BackupOut:
    """Trust an archive that this installation has not signed: its SQL is then executed like our own."""
    return BackupOut.of(restores.trust(actor(), backup_id, json_data.words, json_data.password))
