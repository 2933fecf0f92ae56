"""The password once more, for what a session alone is not enough for: restores, settings, tokens, admins."""

from __future__ import annotations

from uuid import UUID

from app.errors import InvalidInput, Unauthenticated
from app.extensions import db
from app.models import Admin
from app.services import audit, passwords, throttle
from app.services.actor import Actor

WRONG = "The password is wrong. Type the password that you sign in with."
MISSING = "Type the password that you sign in with."
GONE = "Your account was disabled or removed. Ask another admin."


def require(actor: Actor, password: str | None, field: str = "password") -> None:
    """Given who acts and what was typed, check the password of an admin who came in with a session; tokens and the command
    line have none. Raise InvalidInput for `field`, Throttled, or Unauthenticated if the admin has gone meanwhile."""
    if actor.kind != "admin":
        return
    admin = db.session.get(Admin, UUID(actor.id or ""), populate_existing=True)
    if admin is None or admin.disabled_at is not None:
        raise Unauthenticated(GONE)
    if not password:
        raise InvalidInput({field: MISSING})
    throttle.check_login(admin.email, actor.address or "")
    if not passwords.matches(admin.password_hash, password):
        throttle.count_failure(actor.address or "")
        audit.record(actor, "password.wrong", "admin", admin.id)
        db.session.commit()
        raise InvalidInput({field: WRONG})
    throttle.forgive(admin.email)
