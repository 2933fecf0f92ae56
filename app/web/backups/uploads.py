"""Uploading an archive. Its body bypasses Flask's form parser: app.services.backups.uploads streams it to disk."""

from flask import Blueprint, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_required
from flask_wtf.csrf import CSRFError, generate_csrf, validate_csrf
from wtforms.validators import ValidationError

from app import current
from app.errors import Conflict, DomainError
from app.extensions import csrf
from app.http.errors import status_of
from app.http.request import streams_its_body
from app.services.backups import uploads
from app.web.actor import current_actor

bp = Blueprint("uploads", __name__)

TOKEN = "upload_token"
BY_SCRIPT = "XMLHttpRequest"
READ_BYTES = 1024 * 1024
READ_AFTER_REFUSAL_BYTES = 64 * READ_BYTES


@bp.before_request
@login_required
def admins_only() -> None:
    """Require a login for every route of this blueprint."""


@bp.get("/backups/upload")
def form() -> ResponseReturnValue:
    """Show the upload form."""
    return show_form()


@bp.post("/backups/upload")
@csrf.exempt
@streams_its_body
def receive() -> ResponseReturnValue:
    """Receive an archive and redirect to its page, which shows the progress of its check.

    The CSRF token is in the form's URL: looking for it in the body, as Flask-WTF does, would read the whole archive first.
    URLs end up in access logs, so this token is a separate one, bound to the session and valid for nothing else.
    """
    try:
        validate_csrf(request.args.get(TOKEN), token_key=TOKEN)
    except ValidationError as error:
        raise CSRFError(str(error)) from error
    try:
        row = uploads.receive(current_actor(), request.stream, request.content_type or "", request.content_length)
    except DomainError as error:
        read_on()
        return show_form(error, status_of(error))
    page = url_for("web.backups.detail", backup_id=row.id)
    # A script that followed the redirect would load the page in vain.
    return ("", 202, {"Location": page}) if request.headers.get("X-Requested-With") == BY_SCRIPT else redirect(page, 303)


def read_on() -> None:
    """Read some of the rest of the body: a browser whose connection is closed while it sends shows no response."""
    for _ in range(READ_AFTER_REFUSAL_BYTES // READ_BYTES):
        if not request.stream.read(READ_BYTES):
            return


def show_form(error: DomainError | None = None, status: int = 200) -> ResponseReturnValue:
    """Render the form, with the reason if an archive was rejected."""
    first = error.extra.get("id") if isinstance(error, Conflict) else None
    action = url_for(".receive", **{TOKEN: generate_csrf(token_key=TOKEN)})
    settings = current.settings()
    largest = settings.upload_max_bytes
    return render_template("uploads/form.html", action=action, error=error, first=first, largest=largest), status
