"""Restoring: preview, confirmation, the running restore, its result, undo, history. Rules: app.services.restores."""

from uuid import UUID

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_required
from markupsafe import Markup

from app.errors import Conflict, InvalidInput, NotFound, Throttled, Unavailable
from app.http.errors import status_of
from app.services.backups import backups
from app.services.installation import settings
from app.services.restores import restore_list, restores
from app.web.actor import current_actor
from app.web.backups import backup_filters
from app.web.forms import PasswordAgainForm, RestoreForm, TrustForm, refuse, show_errors
from app.web.restores import restore_view

bp = Blueprint("restores", __name__)

CHOICES = 10

WITHOUT_SAFETY = "Tick this box too, or make the safety backup: without it the current state may be lost permanently."


@bp.before_request
@login_required
def admins_only() -> None:
    """Require a login for every route of this blueprint."""


@bp.get("/restores/")
def index() -> ResponseReturnValue:
    """List all restores, newest first."""
    page = restore_list.list_restores(max(1, request.args.get("page", 1, type=int)))
    newest = restores.status()
    last = newest if newest is not None and restores.undo_problem(newest) is None else None
    return render_template("restores/index.html", page=page, last=last)


@bp.get("/restores/new")
def choose() -> ResponseReturnValue:
    """Choose the backup to restore, the first step."""
    text = backup_filters.plain(request.args.get("text", ""))
    number = max(1, request.args.get("page", 1, type=int))
    page = backups.list_backups(number, CHOICES, status="completed", text=text)
    return render_template("restores/choose.html", page=page, text=text)


@bp.get("/backups/<uuid:backup_id>/restore")
def preview(backup_id: UUID) -> ResponseReturnValue:
    """Show what restoring this backup would change: at once from estimates, or counted with `exact`."""
    try:
        found = restores.preview(backup_id, scope_asked_for(), exact="exact" in request.args)
    except Conflict as error:
        flash(error.detail, "warning")
        return redirect(url_for("web.backups.detail", backup_id=backup_id))
    return render_template("restores/preview.html", **preview_values(found))


@bp.get("/backups/<uuid:backup_id>/restore/exact")
def exact_preview(backup_id: UUID) -> ResponseReturnValue:
    """Render the counted preview as a fragment for the page that shows estimates."""
    found = restores.preview(backup_id, scope_asked_for(), exact=True)
    return render_template("restores/_preview.html", **preview_values(found))


@bp.route("/backups/<uuid:backup_id>/restore/confirm", methods=["GET", "POST"])
def confirm(backup_id: UUID) -> ResponseReturnValue:
    """Explain what will happen; start the restore once it is confirmed with the database's name and the password."""
    form, scope = RestoreForm(), scope_asked_for()
    safe = bool(form.safety_backup.data)
    if form.validate_on_submit():
        if not safe and not form.without_safety.data:
            form.without_safety.errors = [WITHOUT_SAFETY]
            return show_confirm(form, backup_id, scope, 422)
        try:
            row = restores.start(
                current_actor(),
                backup_id,
                confirm=(form.confirm.data or "").strip(),
                scope=scope,
                safety_backup=safe,
                password=form.password.data,
            )
        except InvalidInput as error:
            show_errors(form, error)
            return show_confirm(form, backup_id, scope, status_of(error))
        except (Conflict, Throttled, Unavailable) as error:
            form.form_errors.append(error.detail)
            return show_confirm(form, backup_id, scope, status_of(error))
        return redirect(url_for(".detail", restore_id=row.id))
    return show_confirm(form, backup_id, scope)


@bp.route("/backups/<uuid:backup_id>/trust", methods=["GET", "POST"])
def trust(backup_id: UUID) -> ResponseReturnValue:
    """Explain what trusting an unsigned archive means, and trust it once the sentence is typed."""
    row, form = backups.get(backup_id), TrustForm()
    status = 200
    if form.validate_on_submit():
        try:
            restores.trust(current_actor(), backup_id, form.words.data or "", form.password.data)
        except (InvalidInput, Throttled) as error:
            status = refuse(form, error)
        except Conflict as error:
            flash(error.detail, "warning")
            return redirect(url_for("web.backups.detail", backup_id=backup_id))
        else:
            flash("This archive is trusted now. The audit log says who decided so.", "success")
            return redirect(url_for("web.backups.detail", backup_id=backup_id))
    form.words.description = Markup("To confirm, type: <strong>{}</strong>").format(restores.TRUST_WORDS)
    return render_template("restores/trust.html", row=row, form=form), status


@bp.get("/restores/<uuid:restore_id>")
def detail(restore_id: UUID) -> ResponseReturnValue:
    """Show one restore: its progress, or what it changed."""
    return render_template("restores/detail.html", **restore_values(restores.get(restore_id)))


@bp.get("/restores/<uuid:restore_id>/partial")
def partial(restore_id: UUID) -> ResponseReturnValue:
    """Render the progress of one restore as a fragment for the page's live update."""
    row = restores.get(restore_id)
    return render_template("restores/_progress.html", restore=row, progress=restores.progress(row))


@bp.post("/restores/<uuid:restore_id>/cancel")
def cancel(restore_id: UUID) -> ResponseReturnValue:
    """Cancel a restore that has not reached its swap."""
    try:
        restores.cancel(current_actor(), restore_id)
    except Conflict as error:
        flash(error.detail, "warning")
    else:
        flash("The restore is being cancelled. The live database and documents stay as they are.", "success")
    return redirect(url_for(".detail", restore_id=restore_id))


@bp.route("/restores/<uuid:restore_id>/undo", methods=["GET", "POST"])
def undo(restore_id: UUID) -> ResponseReturnValue:
    """Explain what swapping the two states means, and swap them once that is confirmed."""
    row, form = restores.get(restore_id), PasswordAgainForm()
    status = 200
    if form.validate_on_submit():
        try:
            row = restores.undo(current_actor(), restore_id, form.password.data)
        except (InvalidInput, Throttled) as error:
            status = refuse(form, error)
        except (Conflict, Unavailable) as error:
            form.form_errors.append(error.detail)
            status = status_of(error)
        else:
            state = "before this restore" if row.undone_at else "that this restore brought"
            flash(f"Done: the state {state} is live again. The other state is kept.", "success")
            return redirect(url_for(".detail", restore_id=restore_id))
    return render_template("restores/undo.html", form=form, undo_hours=settings.undo_hours(), **restore_values(row)), status


def scope_asked_for() -> str:
    """Return the scope named in the query, by default everything."""
    scope = request.args.get("scope", "all")
    return scope if scope in restore_view.SCOPES else "all"


def preview_values(found: restores.RestorePreview) -> dict[str, object]:
    """Collect what the templates of a preview show."""
    return {
        "found": found,
        "diff": found.diff,
        "row": found.backup,
        "scope": found.diff.scope,
        "tables": restore_view.preview_tables(found.diff),
        "undo_hours": settings.undo_hours(),
    }


def show_confirm(form: RestoreForm, backup_id: UUID, scope: str, status: int = 200) -> ResponseReturnValue:
    """Render the page that asks for confirmation; without the form if there is a blocker."""
    try:
        found = restores.preview(backup_id, scope)
    except Conflict as error:
        flash(error.detail, "warning")
        return redirect(url_for("web.backups.detail", backup_id=backup_id))
    form.confirm.description = Markup("To confirm, type <strong>{}</strong>").format(found.confirm)
    return render_template("restores/confirm.html", form=form, **preview_values(found)), status


def restore_values(row: restores.Restore) -> dict[str, object]:
    """Collect what the templates of a restore show."""
    return {
        "restore": row,
        "progress": restores.progress(row),
        "undo_problem": restores.undo_problem(row),
        "tables": restore_view.result_tables(row.result),
        "backup": backup_or_none(row.backup_id),
        "safety": backup_or_none(row.safety_backup_id),
    }


def backup_or_none(backup_id: UUID | None) -> backups.BackupHistory | None:
    """Return a backup that may have been deleted since, or None."""
    try:
        return backups.get(backup_id) if backup_id else None
    except NotFound:
        return None
