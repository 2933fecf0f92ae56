"""/api/admin/backups/retention, and why a backup is kept."""

from __future__ import annotations

from uuid import UUID

from apiflask import APIBlueprint

from app.api.schemas.retention import CleanupOut, ExplanationOut, PlanOut
from app.errors import Conflict
from app.http.auth import actor, protect, requires
from app.services.inputs import PlanInput
from app.services.retention import cleanup, retention

bp = APIBlueprint("api_retention", __name__, url_prefix="/api/admin/backups", tag="Settings")
protect(bp)


@bp.post("/retention/plan")
@requires("read")
@bp.input(PlanInput)
@bp.output(PlanOut)
def plan_retention(json_data: PlanInput) -> PlanOut:
    """Preview what quotas would keep and delete now. Without a body: the current quotas."""
    return PlanOut.of(retention.plan(json_data))


@bp.post("/retention/cleanup")
@requires("admin")
@bp.output(CleanupOut)
@bp.doc(responses=[409])
def run_cleanup() -> CleanupOut:
    """Delete every backup that no quota protects."""
    report = cleanup.cleanup(actor())
    if report is None:
        raise Conflict("A cleanup is already running. Wait until it has finished.")
    return CleanupOut.model_validate(report)


@bp.get("/<uuid:backup_id>/retention")
@requires("read")
@bp.output(ExplanationOut)
def explain_backup(backup_id: UUID) -> ExplanationOut:
    """Explain why a backup is kept, and until when."""
    return ExplanationOut.model_validate(retention.explain(backup_id))
