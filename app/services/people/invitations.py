"""Invite admins by a link that works once, for three days, and lets them choose their own password."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from flask import render_template
from sqlalchemy import ColumnElement, and_, delete, select
from sqlalchemy.dialects.postgresql import insert

from app import current
from app.errors import Conflict, InvalidInput, NotFound
from app.extensions import db
from app.models import Admin, AdminInvitation, utcnow
from app.runs import locks
from app.services import delivery
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.people import admins, passwords, reauthentication

LASTS = timedelta(days=3)
# In the query string, since request logs keep the path.
PATH = "/invitation?key="
NO_ADDRESS = "PUBLIC_URL is not set: put the address of the pages in front of the link."
NOT_VALID = "This invitation no longer works: it was used or withdrawn, or is older than three days. Ask for a new one."


@dataclass(frozen=True)
class Invited:
    """A new invitation and its link, which is not stored. `mailed`: whether the link was mailed; if that failed,
    `mail_problem` says why."""

    invitation: AdminInvitation
    link: str
    mailed: bool
    mail_problem: str | None


def invite(actor: Actor, email: str, password: str | None = None, base_url: str | None = None) -> Invited:
    """Create an invitation for an address, replacing an older one, and mail the link if SMTP_URL is set.

    `base_url` begins the link if PUBLIC_URL is not set. An admin with a session gives their own password again.
    Raise InvalidInput, Throttled, Unauthenticated, or Conflict if there is such an admin.
    """
    problem = admins.email_problem(email)
    if problem is None and admins.exists(email):
        problem = "There is already an admin with this address. One who is disabled can be enabled again."
    if problem:
        raise InvalidInput({"email": problem})
    reauthentication.require(actor, password)
    secret, now = secrets.token_urlsafe(32), utcnow()
    values = {
        "id": uuid4(),
        "email": admins.normalised(email),
        "secret_hash": _hash(secret),
        "invited_by": UUID(actor.id) if actor.kind == "admin" and actor.id else None,
        "invited_by_name": actor.name,
        "created_at": now,
        "expires_at": now + LASTS,
    }
    changed = {name: value for name, value in values.items() if name != "email"}
    kept = insert(AdminInvitation).values(**values).on_conflict_do_update(index_elements=["email"], set_=changed)
    db.session.execute(kept)
    audit.record(actor, "admin.invited", "invitation", values["id"], {"email": values["email"]})
    db.session.commit()
    row = db.session.get_one(AdminInvitation, values["id"], populate_existing=True)
    base = current.settings().public_url or base_url or ""
    link = f"{base.rstrip('/')}{PATH}{secret}"
    mailed, mail_problem = _mail(row, link)
    return Invited(row, link, mailed, mail_problem)


def list_invitations() -> list[AdminInvitation]:
    """Return the invitations that can still be accepted, the newest first."""
    open_ = select(AdminInvitation).where(AdminInvitation.expires_at > utcnow())
    return list(db.session.scalars(open_.order_by(AdminInvitation.created_at.desc(), AdminInvitation.id)))


def withdraw(actor: Actor, invitation_id: UUID) -> str:
    """Withdraw an open invitation, so that its link stops working. Return the invited address. Raise NotFound."""
    gone = delete(AdminInvitation).where(AdminInvitation.id == invitation_id).returning(AdminInvitation.email)
    email = db.session.scalar(gone)
    if email is None:
        raise NotFound("There is no such invitation. It was accepted, withdrawn, or replaced by a newer one.")
    audit.record(actor, "admin.invitation_withdrawn", "invitation", invitation_id, {"email": email})
    db.session.commit()
    return email


def read(secret: str) -> AdminInvitation:
    """Return the invitation of a link's secret. Raise NotFound."""
    row = db.session.scalar(select(AdminInvitation).where(_valid(secret)))
    if row is None:
        raise NotFound(NOT_VALID)
    return row


def accept(secret: str, password: str, address: str) -> Admin:
    """Create the invited admin with the chosen password and return them; the link then stops working.

    Raise NotFound, InvalidInput, or Conflict if there is such an admin by now.
    """
    email = read(secret).email
    problem = passwords.problem(password, email)
    if problem:
        raise InvalidInput({"password": problem})
    # Hash before taking the lock, so that nobody waits for it.
    admin = Admin(id=uuid4(), email=email, password_hash=passwords.hashed(password), last_login_at=utcnow())
    locks.in_transaction(locks.ADMINS)
    inviter = db.session.scalar(delete(AdminInvitation).where(_valid(secret)).returning(AdminInvitation.invited_by_name))
    if inviter is None:
        db.session.rollback()
        raise NotFound(NOT_VALID)
    if admins.exists(email):
        db.session.rollback()
        raise Conflict(f"There is already an admin with the address {email}. Log in, or ask another admin for help.")
    db.session.add(admin)
    db.session.flush()
    detail = {"email": email, "invited_by": inviter}
    audit.record(Actor("admin", str(admin.id), email, address), "admin.joined", "admin", admin.id, detail)
    db.session.commit()
    return admin


def _valid(secret: str) -> ColumnElement[bool]:
    return and_(AdminInvitation.secret_hash == _hash(secret), AdminInvitation.expires_at > utcnow())


def _mail(row: AdminInvitation, link: str) -> tuple[bool, str | None]:
    settings = current.settings()
    if link.startswith("/"):
        return False, NO_ADDRESS
    if not settings.smtp_url:
        return False, None
    text = render_template("mail/invitation.txt", invitation=row, link=link, app_name=settings.app_name)
    title = f"[{settings.app_name} backup] You are invited to be an admin"
    try:
        delivery.email(settings, str(uuid4()), row.email, title, text, None)
    except delivery.Undelivered as error:
        return False, settings.redact(str(error))
    return True, None


def _hash(secret: str) -> str:
    # The secret is 256 random bits and can't be guessed, so a fast hash is enough.
    return hashlib.sha256(secret.encode()).hexdigest()
