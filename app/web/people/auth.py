"""Login, logout, and the page behind an invitation's link."""

from urllib.parse import urlsplit
from uuid import UUID

from flask import Blueprint, flash, make_response, redirect, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from flask_login import current_user, login_required, login_user, logout_user
from werkzeug.wrappers import Response

from app import current
from app.errors import Conflict, InvalidCredentials, InvalidInput, NotFound, Throttled
from app.http.errors import status_of
from app.models import Admin
from app.services.people import admins, devices, invitations, sessions
from app.web.actor import current_actor
from app.web.forms import LoginForm, refuse
from app.web.people.people_forms import AcceptForm
from app.web.people.safe_next import safe_next

bp = Blueprint("auth", __name__)


@bp.route("/login", methods=["GET", "POST"])
def login() -> ResponseReturnValue:
    """Show the login form; the right password opens a new session and leads to the page that was requested."""
    home = url_for("web.start")
    if current_user.is_authenticated:
        return redirect(safe_next(request.args.get("next"), home))
    form = LoginForm(next=request.args.get("next"))
    status = 200
    headers: dict[str, str] = {}
    if form.validate_on_submit():
        try:
            address, device = request.remote_addr or "", request.cookies.get(devices.cookie_name())
            admin = admins.authenticate(form.email.data or "", form.password.data or "", address, device)
        except InvalidCredentials as error:
            form.form_errors.append(error.detail)
            status = status_of(error)
        except Throttled as error:
            form.form_errors.append(error.detail)
            status, headers = status_of(error), {"Retry-After": str(error.retry_after)}
        else:
            return remember_device(redirect(safe_next(form.next.data, home)), open_session(admin))
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


@bp.route("/invitation", methods=["GET", "POST"])
def accept() -> ResponseReturnValue:
    """Show the page behind an invitation's link; choosing a password creates the account and opens a session."""
    form, secret = AcceptForm(), request.args.get("key", "")
    status = 200
    try:
        invitation = invitations.read(secret)
        if form.validate_on_submit():
            try:
                admin = invitations.accept(secret, form.new_password.data or "", request.remote_addr or "")
            except InvalidInput as error:
                status = refuse(form, InvalidInput({"new_password": error.fields["password"]}))
            else:
                admin_id = open_session(admin)
                flash("Your account is ready, and you are logged in.", "success")
                return remember_device(redirect(url_for("web.start")), admin_id)
        elif form.is_submitted():
            status = 422
    except (NotFound, Conflict) as error:
        return render_template("auth/no_invitation.html", reason=error.detail), status_of(error)
    page = make_response(render_template("auth/accept.html", form=form, invitation=invitation, secret=secret), status)
    # Not "no-referrer": over HTTPS, Flask-WTF rejects a form without a referrer.
    page.headers["Referrer-Policy"] = "same-origin"
    return page


def ask_to_log_in() -> ResponseReturnValue:
    """Redirect a visitor without a session to the login, and from there back to the page they requested."""
    if session.pop("_user_id", None):
        lost = "" if request.method in ("GET", "HEAD") else " What you sent was not saved."
        flash(f"Your session has ended. Log in again to continue.{lost}", "warning")
    return redirect(url_for("web.auth.login", next=way_back()))


def way_back() -> str | None:
    """Return the path to open after the login: the requested page, or the page whose form was submitted."""
    if request.method in ("GET", "HEAD"):
        path = request.full_path.rstrip("?")
    else:
        parts = urlsplit(request.referrer or "")
        path = f"{parts.path}?{parts.query}".rstrip("?") if parts.netloc == request.host else ""
    return path if path not in ("", "/") else None


def open_session(admin: Admin) -> UUID:
    """Replace any previous session with a new one for an authenticated admin; return the admin's id."""
    session.clear()
    user = sessions.begin(admin, request.remote_addr or "", request.user_agent.string)
    login_user(user)
    return user.id


def remember_device(response: Response, admin_id: UUID) -> Response:
    """Set the cookie that marks this browser as one the admin has signed in from."""
    name, https = devices.cookie_name(), current.settings().https
    value, seconds = devices.issue(admin_id, request.cookies.get(name)), int(devices.LASTS.total_seconds())
    response.set_cookie(name, value, max_age=seconds, secure=https, httponly=True, samesite="Lax")
    return response
