"""The schedules: list, form, on and off, run now, delete. The rules are in app.services.schedules.schedules."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_required

from app.errors import Conflict, InvalidInput, Throttled, Unavailable
from app.http.errors import status_of
from app.models import BackupSchedule
from app.models.backup_settings import QUOTA_COLUMNS
from app.services.inputs import PlanInput, ScheduleInput, checked
from app.services.installation import settings
from app.services.retention import retention
from app.services.schedules import schedules, slot_list
from app.web.actor import current_actor
from app.web.forms import ActionForm, refuse, show_errors
from app.web.schedules.schedule_form import ZONES, ScheduleForm

bp = Blueprint("schedules", __name__, url_prefix="/schedules")

SHOWN = 200


@dataclass(frozen=True)
class Entry:
    """A schedule as the list shows it. `quotas` is None if the global ones apply, `overdue_since` if it is not overdue."""

    row: BackupSchedule
    words: str
    quotas: str | None
    last_backup: UUID | None
    overdue_since: datetime | None


@dataclass(frozen=True)
class TypedPreview:
    """The typed schedule in words with its next runs, or its errors. `goes`: the backups that its quotas would delete."""

    found: schedules.Preview | None
    problems: list[str]
    goes: list[retention.Explanation]


@bp.before_request
@login_required
def admins_only() -> None:
    """Require a login for every route of this blueprint."""


@bp.get("/")
def index() -> ResponseReturnValue:
    """List all schedules, oldest first."""
    rows = schedules.list_schedules(1, SHOWN).items
    last = slot_list.last_backups(row.id for row in rows)
    late = {entry.schedule.id: entry.since for entry in schedules.overdue()}
    entries = [Entry(row, words(row), own_quotas(row), last.get(row.id), late.get(row.id)) for row in rows]
    return render_template("schedules/index.html", entries=entries)


@bp.route("/new", methods=["GET", "POST"])
def create() -> ResponseReturnValue:
    """Show the form of a new schedule; save it when submitted."""
    form = ScheduleForm()
    if not form.is_submitted() or wants_preview():
        return show_form(form)
    if form.validate():
        try:
            row = schedules.create(current_actor(), checked(ScheduleInput, form.values()))
        except InvalidInput as error:
            show_errors(form, error)
        except Conflict as error:
            form.form_errors.append(error.detail)
            return show_form(form, status=status_of(error))
        else:
            flash(f"{row.name} is saved." + ("" if row.enabled else " It is off."), "success")
            return redirect(url_for(".index"))
    return show_form(form, status=422)


@bp.route("/<uuid:schedule_id>", methods=["GET", "POST"])
def edit(schedule_id: UUID) -> ResponseReturnValue:
    """Show the form of a schedule; save its changes when submitted."""
    row = schedules.get(schedule_id)
    form = ScheduleForm(obj=row)
    if not form.is_submitted():
        form.show_defaults()
        return show_form(form, row)
    if wants_preview():
        return show_form(form, row)
    if form.validate():
        try:
            given = checked(ScheduleInput, form.values())
            row = schedules.update(current_actor(), schedule_id, given, password=form.password.data)
        except (InvalidInput, Throttled) as error:
            return show_form(form, row, refuse(form, error))
        else:
            flash(f"{row.name} is saved.", "success")
            return redirect(url_for(".index"))
    return show_form(form, row, 422)


@bp.get("/preview")
def preview() -> ResponseReturnValue:
    """Render the schedule being typed in words, as a fragment for the form's live update."""
    form = ScheduleForm(request.args, meta={"csrf": False})
    chosen = request.args.get("schedule_id", type=UUID)
    return render_template("schedules/_preview.html", preview=typed_preview(form, chosen))


@bp.post("/<uuid:schedule_id>/toggle")
def toggle(schedule_id: UUID) -> ResponseReturnValue:
    """Switch a schedule on or off, as submitted."""
    row = schedules.toggle(current_actor(), schedule_id, request.form.get("enabled") == "yes")
    if row.enabled:
        flash(f"{row.name} is on.", "success")
    elif any(other.enabled for other in schedules.list_schedules(1, SHOWN).items):
        flash(f"{row.name} is off: it makes no backups until it is switched on again.", "success")
    else:
        flash(f"{row.name} is off, and so is every other schedule: no backup runs automatically now.", "warning")
    return redirect(url_for(".index"))


@bp.post("/<uuid:schedule_id>/run")
def run(schedule_id: UUID) -> ResponseReturnValue:
    """Start a backup for this schedule now, and redirect to its page."""
    try:
        backup = schedules.run(current_actor(), schedule_id)
    except (Conflict, Unavailable) as error:
        flash(error.detail, "warning")
        running = error.extra.get("id")
        return redirect(url_for("web.backups.detail", backup_id=running) if running else url_for(".index"))
    flash("The backup is queued. This page shows its progress.", "success")
    return redirect(url_for("web.backups.detail", backup_id=backup.id))


@bp.route("/<uuid:schedule_id>/delete", methods=["GET", "POST"])
def delete(schedule_id: UUID) -> ResponseReturnValue:
    """Explain what deleting a schedule means, and delete it once that is confirmed."""
    row, form = schedules.get(schedule_id), ActionForm()
    if form.validate_on_submit():
        name = row.name
        schedules.delete(current_actor(), schedule_id)
        flash(f"{name} is deleted. Its backups are still kept by its last quotas.", "success")
        return redirect(url_for(".index"))
    others = [other for other in schedules.list_schedules(1, SHOWN).items if other.enabled and other.id != row.id]
    return render_template(
        "schedules/delete.html",
        row=row,
        form=form,
        words=words(row),
        quotas=own_quotas(row),
        backups=slot_list.number_of_backups(row.id),
        others=len(others),
    )


def wants_preview() -> bool:
    """Tell whether the form was submitted only to see the next runs, which browsers without JavaScript do."""
    return request.form.get("step") == "preview"


def show_form(form: ScheduleForm, row: BackupSchedule | None = None, status: int = 200) -> ResponseReturnValue:
    """Render the form, of an existing schedule if `row` is given, with the typed schedule in words."""
    values = {
        "form": form,
        "row": row,
        "zones": ZONES,
        "defaults": settings.view(),
        "preview": typed_preview(form, row.id if row else None),
    }
    return render_template("schedules/form.html", **values), status


def typed_preview(form: ScheduleForm, schedule_id: UUID | None) -> TypedPreview:
    """Put the typed schedule in words with its next runs, or list its errors."""
    try:
        found = schedules.preview(checked(ScheduleInput, form.rule()))
    except InvalidInput as error:
        return TypedPreview(None, [f"{label(form, name)}: {text}" for name, text in error.fields.items()], [])
    try:
        return TypedPreview(found, [], would_go(form, schedule_id))
    except InvalidInput:
        return TypedPreview(found, [], [])


def would_go(form: ScheduleForm, schedule_id: UUID | None) -> list[retention.Explanation]:
    """List the backups that only the current quotas of an existing schedule keep. Raise InvalidInput."""
    quotas = form.quotas()
    if schedule_id is None:
        return []
    row = schedules.get(schedule_id)
    if all(str(getattr(row, name)) == str(value) for name, value in quotas.items()):
        return []
    plan = retention.plan(checked(PlanInput, {"schedules": [{"id": schedule_id} | quotas]}))
    gone = set(plan.newly_deleted)
    return [entry for entry in plan.deleted if entry.backup_id in gone]


def label(form: ScheduleForm, name: str) -> str:
    """Return the label of a field."""
    return form[name].label.text if name in form else name


def words(row: BackupSchedule) -> str:
    """Say in words when a schedule runs; a stored rule that cannot be read must not break the list."""
    try:
        return schedules.in_words(row)
    except ValueError as error:
        return f"This schedule can't be read: {error}"


def own_quotas(row: BackupSchedule) -> str | None:
    """Describe a schedule's own quotas, or return None if the global ones apply."""
    own = {name.removeprefix("keep_"): getattr(row, name) for name in QUOTA_COLUMNS}
    named = [f"{value} {category}" for category, value in own.items() if value is not None]
    return ", ".join(named) or None
