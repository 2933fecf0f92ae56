"""/api/admin/backups/settings."""

from __future__ import annotations

from apiflask import APIBlueprint

from app.api.schemas.settings import SettingsIn, SettingsOut, TestOut, TestsOut
from app.http.auth import actor, protect, requires
from app.services.installation import settings
from app.services.notifications import outbox
from app.services.people import reauthentication
from app.services.retention import retention

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
    """Change the global settings. Fields left out stay unchanged, and so does a masked secret that is sent back.

    A browser session must send the admin's password again.
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
    """Send a test message to every recipient and channel, and report each result."""
    return TestsOut(items=[TestOut.model_validate(result) for result in outbox.send_test(actor())])
