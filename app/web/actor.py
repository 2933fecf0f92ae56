"""Who is acting, for the audit log."""

from flask import request
from flask_login import current_user

from app.services.audit.actor import Actor


def current_actor() -> Actor:
    """Return the logged-in admin of this request as an actor."""
    user = current_user
    return Actor("admin", str(user.id), user.email, request.remote_addr or "", session_id=str(user.session_id))
