"""/api/admin/backups/recovery-sheet."""

from __future__ import annotations

from apiflask import APIBlueprint, FileSchema
from flask import Response, make_response

from app.http.auth import actor, protect, requires
from app.services.inputs import Proof
from app.services.people import reauthentication
from app.services.recovery import recovery_sheet

bp = APIBlueprint("api_recovery", __name__, url_prefix="/api/admin/backups", tag="Restores")
protect(bp)


@bp.get("/recovery-sheet")
@requires("admin")
@bp.output(FileSchema(type="string"), content_type="text/plain", description="The sheet.")
@bp.doc(responses=[422])
def download_recovery_sheet() -> Response:
    """Download the recovery sheet, for when this machine is lost. It contains the signing key: a browser session must use
    POST, with the admin's password."""
    return _recovery_sheet(None)


@bp.post("/recovery-sheet")
@requires("admin")
@bp.input(Proof)
@bp.output(FileSchema(type="string"), content_type="text/plain", description="The sheet.")
def ask_for_recovery_sheet(json_data: Proof) -> Response:
    """Download the recovery sheet with a browser session, which must send the admin's password again."""
    return _recovery_sheet(json_data.password)


def _recovery_sheet(password: str | None) -> Response:
    reauthentication.require(actor(), password)
    response = make_response(recovery_sheet.text(actor()))
    response.mimetype = "text/plain"
    response.headers["Content-Disposition"] = f"attachment; filename={recovery_sheet.FILENAME}"
    response.headers["Cache-Control"] = "no-store"
    return response
