"""The global settings: quotas with what they would delete, notifications, limits. Rules: app.services.installation."""

from typing import Any

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_required

from app.errors import InvalidInput, Throttled
from app.http.errors import status_of
from app.models.backup_settings import QUOTA_COLUMNS
from app.services.inputs import PlanInput, SettingsInput, checked
from app.services.installation import settings
from app.services.notifications import outbox
from app.services.people import reauthentication
from app.services.retention import retention
from app.web.actor import current_actor
from app.web.forms import refuse, show_errors
from app.web.settings.settings_forms import LimitsForm, NotificationsForm, QuotasForm, SaveQuotasForm

bp = Blueprint("settings", __name__, url_prefix="/settings")


@bp.before_request
@login_required
def admins_only() -> None:
    """Require a login for every route of this blueprint."""


@bp.get("/")
def index() -> ResponseReturnValue:
    """Redirect to the quotas, the first page of the settings."""
    return redirect(url_for(".quotas"))


@bp.route("/quotas", methods=["GET", "POST"])
def quotas() -> ResponseReturnValue:
    """Edit how many backups are kept. Quotas are only previewed here; the page that shows what they delete saves them."""
    form = QuotasForm(obj=settings.view())
    if form.validate_on_submit():
        try:
            return show_review(SaveQuotasForm(), form.values())
        except InvalidInput as error:
            show_errors(form, error)
            return render_template("settings/quotas.html", form=form), 422
    return render_template("settings/quotas.html", form=form)


@bp.post("/quotas/save")
def save_quotas() -> ResponseReturnValue:
    """Save quotas whose consequences were shown, once the password is given."""
    form = SaveQuotasForm()
    if form.validate_on_submit():
        try:
            given = checked(SettingsInput, form.values())
        except InvalidInput:
            return quotas()
        try:
            reauthentication.require(current_actor(), form.password.data)
        except (InvalidInput, Throttled) as error:
            refuse(form, error)
            return show_review(form, form.values(), status_of(error))
        settings.update(current_actor(), given)
        retention.refresh()
        flash("The quotas are saved. The next cleanup uses them.", "success")
        return redirect(url_for("web.retention.index"))
    return quotas()


@bp.route("/notifications", methods=["GET", "POST"])
def notify() -> ResponseReturnValue:
    """Edit who is notified of what, and how."""
    form = NotificationsForm()
    if not form.is_submitted():
        form.show(settings.view())
    elif form.validate():
        try:
            given = checked(SettingsInput, form.values())
            reauthentication.require(current_actor(), form.password.data)
            settings.update(current_actor(), given)
        except InvalidInput as error:
            form.show_problems(error)
            return show_notifications(form, status=status_of(error))
        except Throttled as error:
            refuse(form, error)
            return show_notifications(form, status=status_of(error))
        flash("The notifications are saved.", "success")
        return redirect(url_for(".notify"))
    return show_notifications(form, status=422 if form.errors else 200)


@bp.post("/test")
def send_test() -> ResponseReturnValue:
    """Send a test message to all saved recipients and channels, and show each result."""
    form = NotificationsForm(formdata=None)
    form.show(settings.view())
    try:
        results = outbox.send_test(current_actor())
    except InvalidInput as error:
        form.show_problems(error)
        return show_notifications(form, status=status_of(error))
    return show_notifications(form, results)


@bp.route("/limits", methods=["GET", "POST"])
def limits() -> ResponseReturnValue:
    """Edit the limits: undo, stalls, disk."""
    form, stored = LimitsForm(), settings.view()
    status = 200
    if not form.is_submitted():
        form.show(stored)
    elif form.validate():
        try:
            given = checked(SettingsInput, form.values(stored))
            reauthentication.require(current_actor(), form.password.data)
            settings.update(current_actor(), given)
        except (InvalidInput, Throttled) as error:
            refuse(form, error)
            status = status_of(error)
        else:
            flash("The limits are saved.", "success")
            return redirect(url_for(".limits"))
    return render_template("settings/limits.html", form=form), status


def show_review(form: SaveQuotasForm, values: dict[str, Any], status: int = 200) -> ResponseReturnValue:
    """Render the page that shows what quotas would delete and asks for the password. Raise InvalidInput."""
    plan = retention.plan(checked(PlanInput, values))
    gone = set(plan.newly_deleted)
    stored = settings.view()
    shown = {
        "form": form,
        "plan": plan,
        "goes": [entry for entry in plan.deleted if entry.backup_id in gone],
        "goes_anyway": len(plan.deleted) - len(gone),
        "changes": [(name.removeprefix("keep_"), getattr(stored, name), plan.quotas[name]) for name in QUOTA_COLUMNS],
    }
    return render_template("settings/review.html", **shown), status


def show_notifications(
    form: NotificationsForm, results: list[outbox.TestResult] | None = None, status: int = 200
) -> ResponseReturnValue:
    """Render the form, and the results of a test if there was one."""
    form.offer_channel()
    mail = settings.view().mail_configured
    return render_template("settings/notifications.html", form=form, results=results, mail_configured=mail), status
