"""Your account: password, sessions, theme. The rules are in app.services.people."""

from dataclasses import dataclass
from uuid import UUID

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required

from app.errors import InvalidInput, NotFound, Throttled
from app.models import AdminSession
from app.services.people import admins, sessions
from app.web.actor import current_actor
from app.web.filters import counted
from app.web.forms import refuse
from app.web.people.people_forms import ChangePasswordForm

bp = Blueprint("account", __name__, url_prefix="/account")

# The first match counts: most browsers also claim to be others.
BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "Firefox/": "Firefox",
    "Chrome/": "Chrome",
    "Chromium/": "Chromium",
    "Safari/": "Safari",
    "curl/": "curl",
    "python": "A Python program",
}
SYSTEMS = {
    "Android": "Android",
    "iPhone": "an iPhone",
    "iPad": "an iPad",
    "Windows": "Windows",
    "Mac OS": "a Mac",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}


@dataclass(frozen=True)
class Entry:
    """A session as the page shows it."""

    row: AdminSession
    words: str
    is_this: bool


@bp.before_request
@login_required
def admins_only() -> None:
    """Require a login for every route of this blueprint."""


@bp.get("/")
def index() -> ResponseReturnValue:
    """Show the account of the current admin."""
    return show(ChangePasswordForm())


@bp.post("/password")
def change_password() -> ResponseReturnValue:
    """Change the password, and end all other sessions."""
    form = ChangePasswordForm()
    if not form.validate_on_submit():
        return show(form, 422)
    try:
        ended = admins.change_password(
            current_actor(), current_user.session_id, form.password.data or "", form.new_password.data or ""
        )
    except (InvalidInput, Throttled) as error:
        return show(form, refuse(form, error))
    others = f" Your {counted(ended, 'other session')} ended." if ended else " You had no other session."
    flash(f"Your password is changed.{others}", "success")
    return redirect(url_for(".index"))


@bp.post("/sessions/end")
def end_others() -> ResponseReturnValue:
    """End every session except this one."""
    ended = sessions.end_others(current_actor(), current_user.session_id)
    flash(f"{counted(ended, 'other session').capitalize()} ended. You are still logged in here.", "success")
    return redirect(url_for(".index"))


@bp.post("/sessions/<uuid:session_id>/end")
def end_one(session_id: UUID) -> ResponseReturnValue:
    """End one other session."""
    try:
        sessions.end_one(current_actor(), session_id)
    except NotFound as error:
        flash(error.detail, "info")
    else:
        flash("That session has ended.", "success")
    return redirect(url_for(".index"))


def show(form: ChangePasswordForm, status: int = 200) -> ResponseReturnValue:
    """Render the page with the password form."""
    rows = sessions.list_sessions(current_user.id)
    entries = [Entry(row, browser_words(row.user_agent), row.id == current_user.session_id) for row in rows]
    entries.sort(key=lambda entry: not entry.is_this)
    values = {
        "form": form,
        "entries": entries,
        "person": admins.get(current_user.id),
        "idle_hours": sessions.IDLE.total_seconds() / 3600,
        "longest_hours": sessions.LONGEST.total_seconds() / 3600,
    }
    return render_template("account/index.html", **values), status


def browser_words(user_agent: str) -> str:
    """Turn a User-Agent into words: "Firefox on Linux"."""
    browser = next((name for mark, name in BROWSERS.items() if mark in user_agent), "An unknown browser")
    system = next((name for mark, name in SYSTEMS.items() if mark in user_agent), None)
    return f"{browser} on {system}" if system else browser
