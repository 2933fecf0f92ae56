"""The people who may sign in: passwords, throttling, the first admin."""

from __future__ import annotations

from uuid import UUID

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from email_validator import EmailNotValidError, validate_email
from sqlalchemy import func, select

from app import locks
from app.config import PASSWORD_LENGTH, Settings
from app.errors import Conflict, InvalidCredentials, InvalidInput, NotFound
from app.extensions import db
from app.models import Admin, utcnow
from app.services import audit, throttle
from app.services.actor import Actor

_hasher = PasswordHasher()
# Compared with when the address is unknown, so that the answer takes as long as for a known one.
_nobody = _hasher.hash("nobody's password")
WRONG = "Email or password is wrong."


def authenticate(email: str, password: str, address: str) -> Admin:
    """Given what was typed and the client's address, return the admin. Raise InvalidCredentials or Throttled."""
    email = _normalised(email)
    throttle.check_login(email, address)
    admin = db.session.scalar(select(Admin).where(Admin.email == email))
    known = admin is not None and admin.disabled_at is None
    right = _matches(admin.password_hash if admin is not None else _nobody, password)
    if admin is None or not known or not right:
        throttle.count_failure(address)
        actor = Actor("system", None, "login", address)
        audit.record(actor, "login.failed", "admin", admin.id if admin else None, {"email": email[:200]})
        db.session.commit()
        raise InvalidCredentials(WRONG)
    throttle.forgive(email)
    admin.last_login_at = utcnow()
    if _hasher.check_needs_rehash(admin.password_hash):
        admin.password_hash = _hasher.hash(password)
    audit.record(Actor("admin", str(admin.id), admin.email, address), "login", "admin", admin.id)
    db.session.commit()
    return admin


def confirm_password(actor: Actor, password: str) -> None:
    """Given a signed-in admin who typed the password once more, check it. Raise InvalidInput or Throttled."""
    admin = get(UUID(actor.id or ""))
    throttle.check_login(admin.email, actor.address or "")
    if not _matches(admin.password_hash, password):
        throttle.count_failure(actor.address or "")
        audit.record(actor, "password.wrong", "admin", admin.id)
        db.session.commit()
        raise InvalidInput({"password": "The password is wrong. Type the password that you sign in with."})
    throttle.forgive(admin.email)


def create(actor: Actor, email: str, password: str) -> Admin:
    """Given an email address and a password, return the new admin. Raise InvalidInput or Conflict."""
    admin = _new(email, password)
    if db.session.scalar(select(Admin.id).where(Admin.email == admin.email)):
        raise Conflict(f"There is already an admin with the address {admin.email}.")
    db.session.add(admin)
    db.session.flush()
    audit.record(actor, "admin.created", "admin", admin.id, {"email": admin.email})
    db.session.commit()
    return admin


def get(admin_id: UUID) -> Admin:
    """Given an id, return the admin. Raise NotFound."""
    admin = db.session.get(Admin, admin_id)
    if admin is None:
        raise NotFound("There is no such admin.")
    return admin


def by_session(session_id: str) -> Admin | None:
    """Given what a session remembers, return the admin, or None if the session has ended."""
    admin_id, _, version = session_id.partition(".")
    try:
        admin = db.session.get(Admin, UUID(admin_id))
    except ValueError:
        return None
    if admin is None or admin.disabled_at is not None or str(admin.session_version) != version:
        return None
    return admin


def ensure_first_admin(settings: Settings) -> None:
    """Given the settings, make the admin of ADMIN_EMAIL and ADMIN_PASSWORD if there is no admin at all."""
    if not settings.admin_email or not settings.admin_password:
        return
    locks.in_transaction(locks.FIRST_ADMIN)
    if db.session.scalar(select(func.count()).select_from(Admin)):
        db.session.rollback()
        return
    create(Actor.system("first start"), settings.admin_email, settings.admin_password)


def _new(email: str, password: str) -> Admin:
    problems = {}
    try:
        validate_email(email, check_deliverability=False, test_environment=True)
    except EmailNotValidError as error:
        problems["email"] = str(error)
    if len(password) < PASSWORD_LENGTH:
        problems["password"] = f"Use at least {PASSWORD_LENGTH} characters."
    if problems:
        raise InvalidInput(problems)
    return Admin(email=_normalised(email), password_hash=_hasher.hash(password))


def _normalised(email: str) -> str:
    return email.strip().lower()


def _matches(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
