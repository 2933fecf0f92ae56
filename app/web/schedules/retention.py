"""What is kept and why, what is deleted next, and the forecast. The rules are in app.services.retention.retention."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_required

from app.services.monitoring import storage_history
from app.services.paging import Page
from app.services.retention import cleanup, retention, timeline
from app.web.actor import current_actor
from app.web.charts.storage import storage
from app.web.charts.timeline import picture

bp = Blueprint("retention", __name__, url_prefix="/retention")

PAGE_SIZE = 50
DELETED_SHOWN = 100


@bp.before_request
@login_required
def admins_only() -> None:
    """Require a login for every route of this blueprint."""


@bp.get("/")
def index() -> ResponseReturnValue:
    """Show today's plan."""
    found, picture_of = retention.reckon(), timeline.timeline()
    kept, deleted = found.plan.kept, found.plan.deleted
    number = max(1, request.args.get("page", 1, type=int))
    shown = found.explained(kept[(number - 1) * PAGE_SIZE : number * PAGE_SIZE])
    values = {
        "page": Page(shown, number, PAGE_SIZE, len(kept)),
        "kept_bytes": sum(decision.backup.size_bytes for decision in kept),
        "deleted": found.explained(deleted[:DELETED_SHOWN]),
        "deleted_number": len(deleted),
        "deleted_bytes": sum(decision.backup.size_bytes for decision in deleted),
        "missing": found.stock.missing,
        "damaged": found.stock.damaged,
        "timeline": picture_of,
        "kept": picture(picture_of),
        "storage": storage(storage_history.history(), picture_of.forecast),
    }
    return render_template("retention/index.html", **values)


@bp.post("/cleanup")
def clean_up() -> ResponseReturnValue:
    """Delete every backup that no quota protects, and report what was deleted."""
    report = cleanup.cleanup(current_actor())
    if report is None:
        flash("A cleanup is already running. Reload this page in a minute.", "warning")
        return redirect(url_for(".index"))
    number = len(report.deleted)
    flash(f"The cleanup deleted {number} backup{'' if number == 1 else 's'}.", "success")
    for text in report.trouble:
        flash(text, "danger")
    if report.in_use:
        flash(f"In use, so left for the next cleanup: {', '.join(report.in_use)}", "warning")
    return redirect(url_for(".index"))
