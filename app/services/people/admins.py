"""Create, disable and remove admins; set passwords; create the first admin."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from sqlalchemy import delete, func, or_, select

from app.config import Settings
from app.errors import Conflict, InvalidCredentials, InvalidInput, NotFound, Throttled, Unauthenticated
from app.extensions import db
from app.models import Admin, AdminInvitation, AuditEntry, utcnow
from app.runs import locks
from app.runs.queue import QueueUnavailable
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.people import devices, passwords, reauthentication, sessions, throttle, tokens
from app.services.people.throttle import Visitor

WRONG = "Email or password is wrong."
LAST = "This is the last admin who can log in. Invite or enable another one first, or nobody could log in."
SELF = "This is your own account. Ask another admin, so that nobody locks themselves out by mistake."
# The longest address that RFC 5321 allows.
EMAIL_LENGTH = 254
# One audit entry per throttled period: thousands would only hide the others.
THROTTLED_TOLD = timedelta(minutes=15)


@dataclass(frozen=True)
class AdminView:
    """An admin for lists, with their numbers of open sessions and active tokens."""

    id: UUID
    email: str
    created_at: datetime
    last_login_at: datetime | None
    disabled_at: datetime | None
    sessions: int
    tokens: int


@dataclass(frozen=True)
class Ended:
    """The numbers of sessions, tokens and invitations that ended with an admin's access."""

    sessions: int
    tokens: int
    invitations: int = 0


def authenticate(email: str, password: str, address: str, device: str | None = None) -> Admin:
    """Return the admin with this email and password.

    `device` is the cookie of a device that signed in before, as received. Raise InvalidCredentials or Throttled.
    """
    email = normalised(email)
    admin = _by_email(email[:EMAIL_LENGTH])
    visitor = Visitor(address, devices.read(device, admin.id) if admin is not None else None)
    try:
        throttle.check_login(email, visitor)
    except Throttled:
        _note_throttled(email, address)
        raise
    kept = admin.password_hash if admin is not None else None
    # Don't hold one of the few database connections while waiting for the hash.
    db.session.rollback()
    right = passwords.matches(kept, password, known=visitor.device is not None)
    admin = _by_email(email[:EMAIL_LENGTH]) if admin is not None else None
    right = right and admin is not None and admin.password_hash == kept
    if admin is None or admin.disabled_at is not None or not right:
        throttle.count_failure(email, visitor)
        detail = {"email": email[:200]}
        if admin is not None and right:
            detail["reason"] = "disabled"
        actor = Actor("system", None, "login", address)
        audit.record(actor, "login.failed", "admin", admin.id if admin else None, detail)
        db.session.commit()
        raise InvalidCredentials(WRONG)
    throttle.forgive(email, visitor)
    admin.last_login_at = utcnow()
    if passwords.is_outdated(admin.password_hash):
        admin.password_hash = passwords.hashed(password)
    audit.record(Actor("admin", str(admin.id), admin.email, address), "login", "admin", admin.id)
    db.session.commit()
    return admin


def list_admins() -> list[AdminView]:
    """Return all admins, enabled ones first, then by address."""
    open_sessions, working_tokens = sessions.numbers(), tokens.numbers()
    ordered = select(Admin).order_by(Admin.disabled_at.is_not(None), Admin.email)
    return [_view(admin, open_sessions, working_tokens) for admin in db.session.scalars(ordered)]


def view(admin_id: UUID) -> AdminView:
    """Return an admin for display. Raise NotFound."""
    return _view(get(admin_id), sessions.numbers(), tokens.numbers())


def get(admin_id: UUID) -> Admin:
    """Return an admin by id. Raise NotFound."""
    admin = db.session.get(Admin, admin_id, populate_existing=True)
    if admin is None:
        raise NotFound("There is no such admin.")
    return admin


def find(email: str) -> Admin:
    """Return an admin by address. Raise NotFound."""
    admin = _by_email(normalised(email))
    if admin is None:
        raise NotFound(f"There is no admin with the address {normalised(email)}.")
    return admin


def create(actor: Actor, email: str, password: str) -> Admin:
    """Create an admin. Raise InvalidInput or Conflict."""
    problems = {"email": email_problem(email), "password": passwords.problem(password, email)}
    found = {name: text for name, text in problems.items() if text}
    if found:
        raise InvalidInput(found)
    email = normalised(email)
    if _by_email(email) is not None:
        raise Conflict(f"There is already an admin with the address {email}.")
    admin = Admin(email=email, password_hash=passwords.hashed(password))
    db.session.add(admin)
    db.session.execute(delete(AdminInvitation).where(AdminInvitation.email == email))
    db.session.flush()
    audit.record(actor, "admin.created", "admin", admin.id, {"email": admin.email})
    db.session.commit()
    return admin


def obstacle(actor: Actor, admin_id: UUID) -> str | None:
    """Return why the actor can't disable or remove this admin, or None. Raise NotFound."""
    admin = get(admin_id)
    others = select(func.count()).where(Admin.id != admin.id, Admin.disabled_at.is_(None))
    if admin.disabled_at is None and not db.session.scalar(others):
        return LAST
    return SELF if actor.kind == "admin" and actor.id == str(admin.id) else None


def disable(actor: Actor, admin_id: UUID, password: str | None = None) -> Ended:
    """End an admin's access at once: sessions, tokens (permanently), and invitations that they sent. Return the numbers.

    An admin with a session gives their own password again. Raise NotFound, InvalidInput, Throttled, Unauthenticated, or
    Conflict if it is the last one or oneself.
    """
    admin = _locked_for_change(actor, admin_id, password)
    if admin.disabled_at is not None:
        db.session.rollback()
        return Ended(0, 0)
    admin.disabled_at = utcnow()
    ended = _end_access(actor, admin)
    audit.record(actor, "admin.disabled", "admin", admin.id, {"email": admin.email} | vars(ended))
    db.session.commit()
    return ended


def enable(actor: Actor, admin_id: UUID, password: str | None = None) -> Admin:
    """Let a disabled admin sign in again with their old password. Revoked tokens stay revoked. Raise NotFound, InvalidInput,
    Throttled or Unauthenticated."""
    reauthentication.require(actor, password)
    locks.in_transaction(locks.ADMINS)
    _check_enabled(actor)
    admin = get(admin_id)
    if admin.disabled_at is not None:
        admin.disabled_at = None
        audit.record(actor, "admin.enabled", "admin", admin.id, {"email": admin.email})
    db.session.commit()
    return admin


def remove(actor: Actor, admin_id: UUID, password: str | None = None) -> Ended:
    """Delete an admin's account permanently, with everything that `disable` ends. The audit log keeps their history. Return
    the numbers. Raise as `disable` does."""
    admin = _locked_for_change(actor, admin_id, password)
    ended = _end_access(actor, admin)
    audit.record(actor, "admin.removed", "admin", admin.id, {"email": admin.email} | vars(ended))
    db.session.delete(admin)
    db.session.commit()
    return ended


def change_password(actor: Actor, session_id: UUID | None, present: str, new: str) -> int:
    """Replace an admin's password, end their other sessions and return the number of those. Raise InvalidInput for
    `password` or `new_password`, or Throttled."""
    admin = get(UUID(actor.id or ""))
    problem = passwords.problem(new, admin.email)
    if problem is None and new == present:
        problem = "This is the current password. Choose a new one."
    try:
        reauthentication.require(actor, present)
    except InvalidInput as error:
        raise InvalidInput(error.fields | ({"new_password": problem} if problem else {})) from None
    if problem:
        raise InvalidInput({"new_password": problem})
    admin.password_hash = passwords.hashed(new)
    ended = sessions.drop(admin.id, session_id)
    audit.record(actor, "password.changed", "admin", admin.id, {"sessions": ended})
    db.session.commit()
    return ended


def set_password(actor: Actor, email: str, new: str) -> int:
    """Set a new password for an admin who forgot theirs, end their sessions and return the number of those. For the command
    line only. Raise NotFound or InvalidInput."""
    admin = find(email)
    problem = passwords.problem(new, admin.email)
    if problem:
        raise InvalidInput({"password": problem})
    admin.password_hash = passwords.hashed(new)
    ended = sessions.drop(admin.id)
    audit.record(actor, "password.reset", "admin", admin.id, {"email": admin.email, "sessions": ended})
    db.session.commit()
    with suppress(QueueUnavailable):
        throttle.unlock(admin.email)
    return ended


def unlock(actor: Actor, email: str) -> Admin:
    """Reset the count of an account's wrong passwords, so that its admin can sign in from anywhere at once. For the command
    line only. Raise NotFound or QueueUnavailable."""
    admin = find(email)
    throttle.unlock(admin.email)
    audit.record(actor, "admin.unlocked", "admin", admin.id, {"email": admin.email})
    db.session.commit()
    return admin


def ensure_first_admin(settings: Settings) -> None:
    """Create the admin of ADMIN_EMAIL and ADMIN_PASSWORD if there is no admin at all."""
    if not settings.admin_email or not settings.admin_password:
        return
    locks.in_transaction(locks.FIRST_ADMIN)
    if db.session.scalar(select(func.count()).select_from(Admin)):
        db.session.rollback()
        return
    create(Actor.system("first start"), settings.admin_email, settings.admin_password)


def email_problem(email: str) -> str | None:
    """Return what is wrong with an email address, or None."""
    try:
        validate_email(email.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        return str(error)
    return None


def normalised(email: str) -> str:
    """Return an address as it is stored. PostgreSQL accepts no NUL."""
    return email.replace("\0", "").strip().lower()


def exists(email: str) -> bool:
    """Return whether an admin, even a disabled one, has this address."""
    return _by_email(normalised(email)) is not None


def _by_email(email: str) -> Admin | None:
    return db.session.scalar(select(Admin).where(Admin.email == email).execution_options(populate_existing=True))


def _view(admin: Admin, open_sessions: dict[UUID, int], working_tokens: dict[UUID, int]) -> AdminView:
    off = admin.disabled_at is not None
    return AdminView(
        id=admin.id,
        email=admin.email,
        created_at=admin.created_at,
        last_login_at=admin.last_login_at,
        disabled_at=admin.disabled_at,
        sessions=0 if off else open_sessions.get(admin.id, 0),
        tokens=0 if off else working_tokens.get(admin.id, 0),
    )


def _locked_for_change(actor: Actor, admin_id: UUID, password: str | None) -> Admin:
    """Take the lock that serialises disabling and removing admins, so that two who disable each other at once can't both
    succeed; return the admin with the row locked."""
    reauthentication.require(actor, password)
    locks.in_transaction(locks.ADMINS)
    _check_enabled(actor)
    problem = obstacle(actor, admin_id)
    if problem is not None:
        db.session.rollback()
        raise Conflict(problem)
    admin = get(admin_id)
    db.session.refresh(admin, with_for_update=True)
    return admin


def _check_enabled(actor: Actor) -> None:
    """Check under the lock that the actor was not disabled a moment ago. Raise Unauthenticated."""
    if actor.kind == "admin":
        enabled = select(Admin.id).where(Admin.id == UUID(actor.id or ""), Admin.disabled_at.is_(None))
        if db.session.scalar(enabled) is None:
            db.session.rollback()
            raise Unauthenticated(reauthentication.GONE)


def _end_access(actor: Actor, admin: Admin) -> Ended:
    sent = delete(AdminInvitation).where(AdminInvitation.invited_by == admin.id).returning(AdminInvitation.id)
    invitations = len(db.session.scalars(sent).all())
    return Ended(sessions.drop(admin.id), tokens.revoke_all_of(actor, admin.id), invitations)


def _note_throttled(email: str, address: str) -> None:
    same = or_(AuditEntry.address == address, AuditEntry.detail["email"].astext == email[:200])
    recent = (AuditEntry.at > utcnow() - THROTTLED_TOLD, AuditEntry.action == "login.throttled", same)
    if db.session.scalar(select(AuditEntry.id).where(*recent).limit(1)) is None:
        actor = Actor("system", None, "login", address)
        audit.record(actor, "login.throttled", "admin", None, {"email": email[:200]})
        db.session.commit()
