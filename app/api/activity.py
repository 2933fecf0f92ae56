"""/api/admin/activity."""

from __future__ import annotations

from apiflask import APIBlueprint

from app.api.schemas.activity import ActivityFilters, ActivityOut, ActivityPage
from app.http.auth import protect, requires
from app.services.audit import audit

bp = APIBlueprint("api_activity", __name__, url_prefix="/api/admin/activity", tag="Activity")
protect(bp)


@bp.get("")
@requires("admin")
@bp.input(ActivityFilters, location="query")
@bp.output(ActivityPage)
def list_activity(query_data: ActivityFilters) -> ActivityPage:
    """List who changed what, newest first. Entries name people and their IP addresses."""
    return ActivityPage.of(audit.list_entries(**query_data.model_dump()), ActivityOut.model_validate)
