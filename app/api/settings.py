"""/api/admin/backups/settings and /retention."""

from __future__ import annotations

from uuid import UUID

from apiflask import APIBlueprint

from app.api.schemas_schedules import CleanupOut, ExplanationOut, PlanOut, SettingsIn, SettingsOut, TestOut, TestsOut
from app.errors import Conflict
from app.http.auth import actor, protect, requires
from app.services.inputs import PlanInput
from app.services.installation import settings
from app.services.notifications import notifications
from app.services.people import reauthentication
from app.services.retention import cleanup, retention

bp = APIBlueprint("api_settings", __name__, url_prefix="/api/admin/backups", tag="Settings")
protect(bp)


@bp.get("/settings")
@requires("read")
@bp.output(SettingsOut)
def get_settings() -> SettingsOut:
    """Show the global settings; secrets are masked."""
    return SettingsOut.model_validate(settings.view())


@bp.put("/settings")
@requires("admin")
@bp.input(SettingsIn)
@bp.output(SettingsOut)
def put_settings(json_data: SettingsIn) -> SettingsOut:
    """Change the global settings. What is not named stays; a masked secret that is sent back stays, too.

    A browser's session gives the admin's password once more.
    """
    reauthentication.require(actor(), json_data.password)
    changed = settings.update(actor(), json_data)
    retention.refresh()
    return SettingsOut.model_validate(changed)


@bp.post("/settings/test")
@requires("admin")
@bp.output(TestsOut)
@bp.doc(responses=[422])
def test_notifications() -> TestsOut:
    """Send a test message to every recipient and channel, and say how each went."""
    return TestsOut(items=[TestOut.model_validate(result) for result in notifications.send_test(actor())])


@bp.post("/retention/plan")
@requires("read")
@bp.input(PlanInput)
@bp.output(PlanOut)
def plan_retention(json_data: PlanInput) -> PlanOut:
    """Try quotas dry: what would be kept and deleted now. Without a body: what the present ones do."""
    return PlanOut.of(retention.plan(json_data))


@bp.post("/retention/cleanup")
@requires("admin")
@bp.output(CleanupOut)
@bp.doc(responses=[409])
def run_cleanup() -> CleanupOut:
    """Delete now what no quota protects."""
    report = cleanup.cleanup(actor())
    if report is None:
        raise Conflict("A cleanup is under way already. Wait until it has finished.")
    return CleanupOut.model_validate(report)


@bp.get("/<uuid:backup_id>/retention")
@requires("read")
@bp.output(ExplanationOut)
def explain_backup(backup_id: UUID) -> ExplanationOut:
    """Say why a backup is kept, and until when."""
    return ExplanationOut.model_validate(retention.explain(backup_id))
