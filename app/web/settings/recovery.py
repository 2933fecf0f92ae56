"""The recovery sheet: what must be kept away from this machine."""

from flask import Blueprint, Response, make_response, render_template
from flask.typing import ResponseReturnValue
from flask_login import login_required

from app.errors import InvalidInput, Throttled
from app.services.people import reauthentication
from app.services.recovery import recovery_sheet
from app.web.actor import current_actor
from app.web.forms import PasswordAgainForm, refuse

bp = Blueprint("recovery", __name__)


@bp.before_request
@login_required
def admins_only() -> None:
    """Require a login for every route of this blueprint."""


@bp.route("/recovery", methods=["GET", "POST"])
def sheet() -> ResponseReturnValue:
    """Explain the sheet; send it once the password is given again, since it contains the signing key."""
    form = PasswordAgainForm()
    status = 200
    if form.validate_on_submit():
        try:
            reauthentication.require(current_actor(), form.password.data)
        except (InvalidInput, Throttled) as error:
            status = refuse(form, error)
        else:
            return download()
    return render_template("recovery/sheet.html", form=form), status


def download() -> Response:
    """Return the sheet as a file that no cache may store."""
    response = make_response(recovery_sheet.text(current_actor()))
    response.mimetype = "text/plain"
    response.headers["Content-Disposition"] = f"attachment; filename={recovery_sheet.FILENAME}"
    response.headers["Cache-Control"] = "no-store"
    return response
