"""Ask for the password again where a session alone is not enough: restores, deletion, trust, settings, people."""

from __future__ import annotations

from uuid import UUID

from app.errors import InvalidInput, Unauthenticated
from app.extensions import db
from app.models import Admin
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.people import passwords, throttle

WRONG = "The password is wrong. Type the password that you sign in with."
MISSING = "Type the password that you sign in with."
GONE = "Your account was disabled or removed. Ask another admin."


def require(actor: Actor, password: str | None, field: str = "password") -> None:
    """Check the password of an admin who acts in a session; tokens and the command line have none.

    Wrong passwords are counted per session: nothing that happens at the login page, or from the same address, prevents an
    admin who is signed in from restoring. Raise InvalidInput for `field`, Throttled, or Unauthenticated if the admin was
    disabled or removed in the meantime.
    """
    if actor.kind != "admin":
        return
    admin = db.session.get(Admin, UUID(actor.id or ""), populate_existing=True)
    if admin is None or admin.disabled_at is not None:
        raise Unauthenticated(GONE)
    if not password:
        raise InvalidInput({field: MISSING})
    session_id = actor.session_id or actor.id or ""
    throttle.check_again(session_id)
    if not passwords.matches(admin.password_hash, password, known=True):
        audit.record(actor, "password.wrong", "admin", admin.id)
        db.session.commit()
        raise InvalidInput({field: WRONG})
    throttle.forgive_again(session_id)
