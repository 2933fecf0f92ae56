"""/api/admin/backups/schedules."""

from __future__ import annotations

from uuid import UUID

from apiflask import APIBlueprint
from flask import url_for

from app.api.answers import NO_CONTENT, queued_backup
from app.api.schemas.backups import BackupOut
from app.api.schemas.common import Located, Paging
from app.api.schemas.schedules import ScheduleOut, SchedulePage, SchedulePreviewOut
from app.http.auth import actor, protect, requires
from app.services.inputs import ScheduleChange, ScheduleInput, Toggle
from app.services.schedules import schedules

bp = APIBlueprint("api_schedules", __name__, url_prefix="/api/admin/backups/schedules", tag="Schedules")
protect(bp)


@bp.get("")
@requires("read")
@bp.input(Paging, location="query")
@bp.output(SchedulePage)
def list_schedules(query_data: Paging) -> SchedulePage:
    """List the schedules, oldest first."""
    return SchedulePage.of(schedules.list_schedules(query_data.page, query_data.page_size), ScheduleOut.of)


@bp.post("")
@requires("admin")
@bp.input(ScheduleInput)
@bp.output(ScheduleOut, status_code=201, headers=Located)
@bp.doc(responses=[409])
def create_schedule(json_data: ScheduleInput) -> tuple[ScheduleOut, int, dict[str, str]]:
    """Create a schedule. Fields left out get the defaults of its frequency."""
    row = schedules.create(actor(), json_data)
    return ScheduleOut.of(row), 201, {"Location": url_for("api_schedules.get_schedule", schedule_id=row.id)}


@bp.post("/preview")
@requires("read")
@bp.input(ScheduleInput)
@bp.output(SchedulePreviewOut)
def preview_schedule(json_data: ScheduleInput) -> SchedulePreviewOut:
    """Describe in words when a schedule would run, with its next five runs."""
    return SchedulePreviewOut.model_validate(schedules.preview(json_data))


@bp.get("/<uuid:schedule_id>")
@requires("read")
@bp.output(ScheduleOut)
def get_schedule(schedule_id: UUID) -> ScheduleOut:
    """Show one schedule."""
    return ScheduleOut.of(schedules.get(schedule_id))


@bp.put("/<uuid:schedule_id>")
@requires("admin")
@bp.input(ScheduleChange)
@bp.output(ScheduleOut)
def update_schedule(schedule_id: UUID, json_data: ScheduleChange) -> ScheduleOut:
    """Change a schedule. Fields left out stay unchanged. A browser session must send the admin's password again to change
    quotas."""
    return ScheduleOut.of(schedules.update(actor(), schedule_id, json_data, password=json_data.password))


@bp.delete("/<uuid:schedule_id>")
@requires("admin")
@bp.output({}, status_code=204)
def delete_schedule(schedule_id: UUID) -> tuple[str, int]:
    """Delete a schedule. Its backups are kept by its last quotas."""
    schedules.delete(actor(), schedule_id)
    return NO_CONTENT


@bp.patch("/<uuid:schedule_id>/toggle")
@requires("admin")
@bp.input(Toggle)
@bp.output(ScheduleOut)
def toggle_schedule(schedule_id: UUID, json_data: Toggle) -> ScheduleOut:
    """Switch a schedule on or off; without a body, toggle it."""
    return ScheduleOut.of(schedules.toggle(actor(), schedule_id, json_data.enabled))


@bp.post("/<uuid:schedule_id>/run")
@requires("backup")
@bp.output(BackupOut, status_code=202, headers=Located)
@bp.doc(responses=[409])
def run_schedule(schedule_id: UUID) -> tuple[BackupOut, int, dict[str, str]]:
    """Start a backup for the schedule now. It does not replace a scheduled one."""
    row = schedules.run(actor(), schedule_id)
    return queued_backup(row)
