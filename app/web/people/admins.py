"""The admins: list, invite, disable, enable, remove. The rules are in app.services.people."""

from uuid import UUID

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_required

from app.errors import Conflict, InvalidInput, NotFound, Throttled
from app.http.request import pages_address
from app.services.people import admins, invitations, tokens
from app.web.actor import current_actor
from app.web.filters import counted
from app.web.forms import PasswordAgainForm, refuse
from app.web.people import once
from app.web.people.people_forms import InviteForm

bp = Blueprint("admins", __name__, url_prefix="/admins")


@bp.before_request
@login_required
def admins_only() -> None:
    """Require a login for every route of this blueprint."""


@bp.get("/")
def index() -> ResponseReturnValue:
    """List all admins and open invitations."""
    people = admins.list_admins()
    enabled = sum(person.disabled_at is None for person in people)
    return render_template("admins/index.html", people=people, enabled=enabled, invited=invitations.list_invitations())


@bp.route("/invite", methods=["GET", "POST"])
def invite() -> ResponseReturnValue:
    """Show the invitation form; redirect to the page that shows the link."""
    form = InviteForm()
    status = 200
    if form.validate_on_submit():
        try:
            made = invitations.invite(current_actor(), form.email.data or "", form.password.data or "", pages_address())
        except (InvalidInput, Throttled) as error:
            status = refuse(form, error)
        else:
            once.keep(made.invitation.id, {"link": made.link, "mailed": made.mailed, "problem": made.mail_problem})
            return redirect(url_for(".invited", invitation_id=made.invitation.id))
    elif form.is_submitted():
        status = 422
    return render_template("admins/invite.html", form=form), status


@bp.get("/invitations/<uuid:invitation_id>")
def invited(invitation_id: UUID) -> ResponseReturnValue:
    """Show the link of a new invitation, once."""
    row = next((row for row in invitations.list_invitations() if row.id == invitation_id), None)
    if row is None:
        flash("This invitation was accepted, withdrawn or replaced, or it is too old.", "info")
        return redirect(url_for(".index"))
    return render_template("admins/invited.html", row=row, shown=once.show(invitation_id))


@bp.post("/invitations/<uuid:invitation_id>/withdraw")
def withdraw(invitation_id: UUID) -> ResponseReturnValue:
    """Withdraw an invitation: its link stops working."""
    try:
        email = invitations.withdraw(current_actor(), invitation_id)
    except NotFound as error:
        flash(error.detail, "warning")
    else:
        flash(f"The invitation of {email} is withdrawn: its link no longer works.", "success")
    return redirect(url_for(".index"))


@bp.route("/<uuid:admin_id>/disable", methods=["GET", "POST"])
def disable(admin_id: UUID) -> ResponseReturnValue:
    """Explain what disabling an admin means, and do it once that is confirmed."""
    return confirm(admin_id, "disable")


@bp.route("/<uuid:admin_id>/enable", methods=["GET", "POST"])
def enable(admin_id: UUID) -> ResponseReturnValue:
    """Explain what enabling an admin means, and do it once that is confirmed."""
    return confirm(admin_id, "enable")


@bp.route("/<uuid:admin_id>/remove", methods=["GET", "POST"])
def remove(admin_id: UUID) -> ResponseReturnValue:
    """Explain what removing an admin means, and do it once that is confirmed."""
    return confirm(admin_id, "remove")


def confirm(admin_id: UUID, action: str) -> ResponseReturnValue:
    """Render the page that explains an action on an admin, or perform the confirmed action and report its result."""
    form, person = PasswordAgainForm(), admins.view(admin_id)
    status = 200
    if form.validate_on_submit():
        try:
            flash(done(person, action, form.password.data or ""), "success")
            return redirect(url_for(".index"))
        except (InvalidInput, Throttled, Conflict) as error:
            status = refuse(form, error)
    values = {
        "form": form,
        "person": person,
        "action": action,
        "keys": tokens.working_of(admin_id) if person.disabled_at is None else [],
        "sent": [row for row in invitations.list_invitations() if row.invited_by == admin_id],
        "obstacle": admins.obstacle(current_actor(), admin_id) if action != "enable" else None,
    }
    return render_template("admins/confirm.html", **values), status


def done(person: admins.AdminView, action: str, password: str) -> str:
    """Perform a confirmed action and describe its result. Raise InvalidInput, Throttled or Conflict."""
    actor = current_actor()
    if action == "enable":
        admins.enable(actor, person.id, password)
        return f"{person.email} can log in again."
    ended = (admins.disable if action == "disable" else admins.remove)(actor, person.id, password)
    parts = [counted(ended.sessions, "session"), counted(ended.tokens, "token")]
    if ended.invitations:
        parts.append(counted(ended.invitations, "invitation"))
    *first, last = parts
    return f"{person.email} is {'disabled' if action == 'disable' else 'removed'}. Ended: {', '.join(first)} and {last}."
