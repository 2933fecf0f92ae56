"""Login, logout."""

from flask import Blueprint, flash, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required, login_user, logout_user

from app.errors import InvalidCredentials, Throttled
from app.models import Admin
from app.services import admins, sessions
from app.web.actor import current_actor
from app.web.forms import LoginForm
from app.web.safe_next import safe_next

bp = Blueprint("auth", __name__)


@bp.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    """The login form; a right password opens a new session and goes where the visitor wanted to."""
    home = url_for("web.start")
    if current_user.is_authenticated:
        return redirect(safe_next(request.args.get("next"), home))
    form = LoginForm(next=request.args.get("next"))
    status = 200
    headers: dict[str, str] = {}
    if form.validate_on_submit():
        try:
            admin = admins.authenticate(form.email.data, form.password.data, request.remote_addr or "")
        except InvalidCredentials as error:
            form.form_errors.append(error.detail)
            status = error.status
        except Throttled as error:
            form.form_errors.append(error.detail)
            status, headers = error.status, {"Retry-After": str(error.retry_after)}
        else:
            open_session(admin)
            return redirect(safe_next(form.next.data, home))
    elif form.is_submitted():
        status = 422
    return render_template("auth/login.html", form=form), status, headers


@bp.post("/logout")
@login_required
def logout() -> ResponseReturnValue:
    """Close the session."""
    sessions.log_out(current_actor(), current_user.session_id)
    logout_user()
    session.clear()
    flash("You are logged out.", "success")
    return redirect(url_for("web.auth.login"))


def open_session(admin: Admin) -> None:
    """Given an admin who proved who they are, replace whatever session there was by a new one."""
    session.clear()
    login_user(sessions.begin(admin, request.remote_addr or "", request.user_agent.string))
