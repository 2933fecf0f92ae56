"""Who is acting, for the audit."""

from flask import request
from flask_login import current_user

from app.services.actor import Actor


def current_actor() -> Actor:
    """Return the logged-in admin of this request as the services know actors."""
    return Actor(kind="admin", id=str(current_user.id), name=current_user.email, address=request.remote_addr or "")
