"""The backups: list, one backup, and the actions on it. The rules are in app.services.backups.backups."""

from uuid import UUID

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_required

from app.errors import Conflict, InvalidInput, Throttled, Unavailable
from app.http.archive_response import send_archive
from app.http.errors import status_of
from app.services.backups import backups
from app.services.retention import deletion_preview, retention
from app.services.schedules import schedules, slot_list
from app.web.actor import current_actor
from app.web.backups import backup_filters
from app.web.backups.running import running
from app.web.filters import filesize
from app.web.forms import NoteForm, PasswordAgainForm, StartForm, refuse, show_errors

bp = Blueprint("backups", __name__, url_prefix="/backups")

PAGE_SIZE = 25


@bp.before_request
@login_required
def admins_only() -> None:
    """Require a login for every route of this blueprint."""


@bp.get("/")
def index() -> ResponseReturnValue:
    """List all backups, newest first."""
    return show_index(StartForm())


@bp.post("/")
def start() -> ResponseReturnValue:
    """Start a manual backup and redirect to its page, which shows the progress."""
    form = StartForm()
    if not form.validate_on_submit():
        return show_index(form, 422)
    try:
        row = backups.start(current_actor(), note=form.note.data or None)
    except InvalidInput as error:
        show_errors(form, error)
        return show_index(form, 422)
    except (Conflict, Unavailable) as error:
        form.form_errors.append(error.detail)
        return show_index(form, status_of(error))
    flash("The backup is queued. This page shows its progress.", "success")
    return redirect(url_for(".detail", backup_id=row.id))


@bp.get("/<uuid:backup_id>")
def detail(backup_id: UUID) -> ResponseReturnValue:
    """Show everything known about one backup."""
    row = backups.get(backup_id)
    return show_detail(row, NoteForm(obj=row))


@bp.get("/<uuid:backup_id>/partial")
def partial(backup_id: UUID) -> ResponseReturnValue:
    """Render the progress of one backup as a fragment for the page's live update."""
    row = backups.get(backup_id)
    return render_template("backups/_progress.html", row=row, progress=backups.progress(row))


@bp.get("/<uuid:backup_id>/download")
def download(backup_id: UUID) -> ResponseReturnValue:
    """Send the archive, with support for ranges and If-None-Match, so that an interrupted download can be resumed."""
    return send_archive(current_actor(), backup_id)


@bp.post("/<uuid:backup_id>/note")
def note(backup_id: UUID) -> ResponseReturnValue:
    """Change the note."""
    form = NoteForm()
    if form.validate_on_submit():
        try:
            backups.update(current_actor(), backup_id, note=form.note.data or None)
        except InvalidInput as error:
            show_errors(form, error)
        else:
            flash("The note is saved.", "success")
            return redirect(url_for(".detail", backup_id=backup_id))
    return show_detail(backups.get(backup_id), form, 422)


@bp.post("/<uuid:backup_id>/pin")
def pin(backup_id: UUID) -> ResponseReturnValue:
    """Pin a backup; redirect a request to unpin to the page that asks for the password."""
    if request.form.get("pinned") != "yes":
        return redirect(url_for(".unpin", backup_id=backup_id))
    backups.update(current_actor(), backup_id, pinned=True)
    flash("Pinned: no cleanup deletes this backup.", "success")
    return redirect(url_for(".detail", backup_id=backup_id))


@bp.route("/<uuid:backup_id>/unpin", methods=["GET", "POST"])
def unpin(backup_id: UUID) -> ResponseReturnValue:
    """Explain what unpinning means, and unpin once the password is given again."""
    row, form = backups.get(backup_id), PasswordAgainForm()
    status = 200
    if form.validate_on_submit():
        try:
            backups.update(current_actor(), backup_id, pinned=False, password=form.password.data)
        except (InvalidInput, Throttled) as error:
            status = refuse(form, error)
        else:
            flash("Unpinned: cleanup may delete it again.", "success")
            return redirect(url_for(".detail", backup_id=backup_id))
    return render_template("backups/unpin.html", row=row, form=form), status


@bp.post("/<uuid:backup_id>/cancel")
def cancel(backup_id: UUID) -> ResponseReturnValue:
    """Cancel a queued or running backup."""
    try:
        backups.cancel(current_actor(), backup_id)
    except Conflict as error:
        flash(error.detail, "warning")
    else:
        flash("The backup is being cancelled. Its partial file is removed.", "success")
    return redirect(url_for(".detail", backup_id=backup_id))


@bp.post("/<uuid:backup_id>/verify")
def verify(backup_id: UUID) -> ResponseReturnValue:
    """Have a worker verify the archive, or restore it into a scratch database, as submitted."""
    restoring = request.form.get("restore") == "yes"
    try:
        backups.verify(current_actor(), backup_id, restore=restoring)
    except (Conflict, Unavailable) as error:
        flash(error.detail, "warning")
    else:
        work = "restores the archive into a scratch database" if restoring else "reads the archive back"
        flash(f"A worker {work}. This page shows how far it is.", "success")
    return redirect(url_for(".detail", backup_id=backup_id))


@bp.route("/<uuid:backup_id>/delete", methods=["GET", "POST"])
def delete(backup_id: UUID) -> ResponseReturnValue:
    """Explain what deleting means, and delete once that is confirmed."""
    row, form = backups.get(backup_id), PasswordAgainForm()
    if form.validate_on_submit():
        name, meant = row.filename, deletion_preview.consequences(row)
        try:
            backups.delete(current_actor(), backup_id, form.password.data)
        except (InvalidInput, Throttled) as error:
            return show_delete(row, form, refuse(form, error))
        except Conflict as error:
            form.form_errors.append(error.detail)
            return show_delete(row, form, status_of(error))
        flash(*deleted_words(name, meant))
        return redirect(url_for(".index"))
    return show_delete(row, form)


def show_index(form: StartForm, status: int = 200) -> ResponseReturnValue:
    """Render the list that the query asks for, with the start form."""
    filters = backup_filters.read(request.args)
    number = max(1, request.args.get("page", 1, type=int))
    page = backups.list_backups(number, PAGE_SIZE, **vars(filters))
    values = {
        "form": form,
        "page": page,
        "filters": filters,
        "running": running(),
        "schedules": {str(schedule.id): schedule.name for schedule in schedules.list_schedules(1, 100).items},
        "made_for": slot_list.names_of_schedules(page.items),
    }
    return render_template("backups/index.html", **values), status


def show_detail(row: backups.BackupHistory, form: NoteForm, status: int = 200) -> ResponseReturnValue:
    """Render the page of a backup, with the note form."""
    values = {
        "row": row,
        "form": form,
        "progress": backups.progress(row),
        "explanation": retention.explain(row.id) if row.status == "completed" else None,
        "filled": slot_list.filled_by(row),
    }
    return render_template("backups/detail.html", **values), status


def show_delete(row: backups.BackupHistory, form: PasswordAgainForm, status: int = 200) -> ResponseReturnValue:
    """Render the page that explains what deleting a backup means."""
    return render_template("backups/delete.html", row=row, form=form, meant=deletion_preview.consequences(row)), status


def deleted_words(name: str | None, meant: deletion_preview.Consequences) -> tuple[str, str]:
    """Describe what a deletion did; return the text and the category of the message."""
    if name is None:
        return "The entry is deleted. It had no archive.", "success"
    if not meant.freed_bytes:
        return f"The entry of {name} is deleted. Its archive was no longer in the storage folder.", "success"
    what = f"{name} is deleted: {filesize(meant.freed_bytes)} are free again."
    if meant.nothing_left:
        return f"{what} No completed backup remains: make one soon.", "warning"
    remain = "1 completed backup remains." if meant.others == 1 else f"{meant.others:,} completed backups remain."
    return f"{what} {remain}", "success"
