"""The API tokens: list, create, revoke. The rules are in app.services.people.tokens."""

from uuid import UUID

from flask import Blueprint, flash, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from flask_login import login_required

from app.errors import InvalidInput, Throttled
from app.http.request import pages_address
from app.models import utcnow
from app.services.people import tokens
from app.web.actor import current_actor
from app.web.forms import ActionForm, refuse
from app.web.people import once
from app.web.people.people_forms import SCOPE_WORDS, TokenForm

bp = Blueprint("tokens", __name__, url_prefix="/tokens")


@bp.before_request
@login_required
def admins_only() -> None:
    """Require a login for every route of this blueprint."""


@bp.get("/")
def index() -> ResponseReturnValue:
    """List the tokens that work, then those that ended."""
    rows = tokens.list_tokens()
    working = [row for row in rows if tokens.works(row)]
    over = [row for row in rows if not tokens.works(row)]
    ending = {row.id for row in working if row.expires_at and row.expires_at < utcnow() + tokens.WARNED_BEFORE}
    return render_template("tokens/index.html", working=working, over=over, ending=ending, scope_words=SCOPE_WORDS)


@bp.route("/new", methods=["GET", "POST"])
def create() -> ResponseReturnValue:
    """Show the form of a new token; redirect to the page that shows its secret."""
    form = TokenForm()
    status = 200
    if form.validate_on_submit():
        try:
            row, secret = tokens.create(
                current_actor(), form.name.data or "", form.scopes.data or [], form.password.data or "", form.lasts()
            )
        except (InvalidInput, Throttled) as error:
            status = refuse(form, error)
        else:
            once.keep(row.id, {"secret": secret})
            return redirect(url_for(".created", token_id=row.id))
    elif form.is_submitted():
        status = 422
    return render_template("tokens/new.html", form=form, scope_words=SCOPE_WORDS), status


@bp.get("/<uuid:token_id>")
def created(token_id: UUID) -> ResponseReturnValue:
    """Show a new token with its secret, once."""
    row, shown = tokens.get(token_id), once.show(token_id)
    address = f"{pages_address() or 'https://…'}/api/admin/backups"
    return render_template("tokens/created.html", row=row, shown=shown, scope_words=SCOPE_WORDS, address=address)


@bp.route("/<uuid:token_id>/revoke", methods=["GET", "POST"])
def revoke(token_id: UUID) -> ResponseReturnValue:
    """Explain what revoking a token means, and revoke it once that is confirmed."""
    row, form = tokens.get(token_id), ActionForm()
    if row.revoked_at is not None:
        flash(f"{row.name} is revoked already.", "info")
        return redirect(url_for(".index"))
    if form.validate_on_submit():
        tokens.revoke(current_actor(), token_id)
        flash(f"{row.name} is revoked: whatever still uses it is refused from now on.", "success")
        return redirect(url_for(".index"))
    return render_template("tokens/revoke.html", row=row, form=form, scope_words=SCOPE_WORDS)
