"""Sessions: one row each. The cookie only names the row, so ending a session invalidates every copy of its cookie."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, or_, select, update

from app.errors import NotFound
from app.extensions import db
from app.models import Admin, AdminSession, utcnow
from app.services.audit import audit
from app.services.audit.actor import Actor

# A session expires this long after the last request, and this long after logging in.
IDLE = timedelta(hours=2)
LONGEST = timedelta(hours=12)
# "Last seen" is for people and for IDLE: one write per minute is enough.
SEEN_STEP = timedelta(minutes=1)
USER_AGENT_LENGTH = 300


@dataclass(frozen=True)
class SignedIn:
    """An admin in one of their sessions, as a Flask-Login user."""

    id: UUID
    email: str
    session_id: UUID
    is_authenticated: bool = True
    is_active: bool = True
    is_anonymous: bool = False

    def get_id(self) -> str:
        """Return the value that the cookie stores."""
        return str(self.session_id)


def begin(admin: Admin, address: str, user_agent: str) -> SignedIn:
    """Open a session for an admin who has authenticated."""
    now = utcnow()
    db.session.execute(delete(AdminSession).where(_over(now)))
    row = AdminSession(
        admin_id=admin.id, created_at=now, last_seen_at=now, address=address, user_agent=user_agent[:USER_AGENT_LENGTH]
    )
    db.session.add(row)
    db.session.commit()
    return SignedIn(admin.id, admin.email, row.id)


def find(session_id: str) -> SignedIn | None:
    """Return the user of a cookie's value, or None if the session has ended or the admin is disabled."""
    try:
        wanted = UUID(session_id)
    except ValueError:
        return None
    now = utcnow()
    chosen = select(AdminSession.id, AdminSession.last_seen_at, Admin.id.label("admin_id"), Admin.email)
    chosen = chosen.join(Admin, Admin.id == AdminSession.admin_id)
    row = db.session.execute(chosen.where(AdminSession.id == wanted, Admin.disabled_at.is_(None), ~_over(now))).first()
    if row is None:
        return None
    if row.last_seen_at < now - SEEN_STEP:
        stale = (AdminSession.id == wanted, AdminSession.last_seen_at < now - SEEN_STEP)
        db.session.execute(update(AdminSession).where(*stale).values(last_seen_at=now))
        db.session.commit()
    return SignedIn(row.admin_id, row.email, row.id)


def list_sessions(admin_id: UUID) -> list[AdminSession]:
    """Return an admin's open sessions, most recently used first."""
    theirs = select(AdminSession).where(AdminSession.admin_id == admin_id, ~_over(utcnow()))
    return list(db.session.scalars(theirs.order_by(AdminSession.last_seen_at.desc(), AdminSession.id)))


def numbers() -> dict[UUID, int]:
    """Return the number of open sessions by admin; admins without one are left out."""
    counted = select(AdminSession.admin_id, func.count()).where(~_over(utcnow())).group_by(AdminSession.admin_id)
    return dict(db.session.execute(counted).all())


def log_out(actor: Actor, session_id: UUID) -> None:
    """End the actor's current session."""
    db.session.execute(delete(AdminSession).where(AdminSession.id == session_id))
    audit.record(actor, "logout", "admin", actor.id)
    db.session.commit()


def end_one(actor: Actor, session_id: UUID) -> None:
    """End another session of the actor's. Raise NotFound."""
    mine = (AdminSession.id == session_id, AdminSession.admin_id == UUID(actor.id or ""))
    if db.session.scalar(delete(AdminSession).where(*mine).returning(AdminSession.id)) is None:
        raise NotFound("There is no such session. It may have expired.")
    audit.record(actor, "sessions.ended", "admin", actor.id, {"sessions": 1})
    db.session.commit()


def end_others(actor: Actor, keep: UUID) -> int:
    """End all of the actor's sessions except the one to keep, and return their number."""
    ended = drop(UUID(actor.id or ""), keep)
    if ended:
        audit.record(actor, "sessions.ended", "admin", actor.id, {"sessions": ended})
    db.session.commit()
    return ended


def drop(admin_id: UUID, keep: UUID | None = None) -> int:
    """Delete an admin's sessions, except the one to keep, in the current transaction. Return how many were open."""
    now = utcnow()
    db.session.execute(delete(AdminSession).where(AdminSession.admin_id == admin_id, _over(now)))
    theirs = delete(AdminSession).where(AdminSession.admin_id == admin_id)
    if keep is not None:
        theirs = theirs.where(AdminSession.id != keep)
    return len(db.session.scalars(theirs.returning(AdminSession.id)).all())


def _over(now: datetime) -> ColumnElement[bool]:
    return or_(AdminSession.created_at <= now - LONGEST, AdminSession.last_seen_at <= now - IDLE)
