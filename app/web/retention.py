"""What is kept and why, what leaves next, and what there will be. Rules live in app.services.retention."""

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_required

from app.services import cleanup, retention
from app.services.paging import Page
from app.web.actor import current_actor

bp = Blueprint("retention", __name__, url_prefix="/retention")

PAGE_SIZE = 50
LEAVING_SHOWN = 10
CATEGORIES = ("hourly", "daily", "weekly", "monthly")


@bp.before_request
@login_required
def admins_only() -> None:
    """Refuse everybody who is not logged in, for each route of this blueprint."""


@bp.get("/")
def index() -> ResponseReturnValue:
    """The plan as it is today."""
    plan = retention.plan()
    leaving = sorted(((entry.leaves_at, entry) for entry in plan.kept if entry.leaves_at), key=lambda pair: pair[0])
    number = max(1, request.args.get("page", 1, type=int))
    shown = plan.kept[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]
    values = {
        "plan": plan,
        "page": Page(shown, number, PAGE_SIZE, len(plan.kept)),
        "leaving": [entry for _, entry in leaving[:LEAVING_SHOWN]],
        "tiers": [tier(plan, category) for category in CATEGORIES],
    }
    return render_template("retention/index.html", **values)


@bp.post("/cleanup")
def clean_up() -> ResponseReturnValue:
    """Delete now what nothing keeps, and say what was done."""
    report = cleanup.cleanup(current_actor())
    if report is None:
        flash("A cleanup is under way already. Look again in a minute.", "warning")
        return redirect(url_for(".index"))
    number = len(report.deleted)
    flash(f"The cleanup deleted {number} backup{'' if number == 1 else 's'}.", "success")
    for text in report.trouble:
        flash(text, "danger")
    if report.in_use:
        flash(f"In use just now, so the next cleanup looks again: {', '.join(report.in_use)}", "warning")
    return redirect(url_for(".index"))


def tier(plan: retention.PlanView, category: str) -> tuple[str, int, int]:
    """Given the plan and a category, return its name, its quota, and how many of the kept backups are of it."""
    return category, plan.quotas[f"keep_{category}"], sum(category in entry.categories for entry in plan.kept)
