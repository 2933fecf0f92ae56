"""API tokens: created, shown once, checked, revoked."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, or_, select, update

from app.errors import InvalidInput, NotFound, Unauthenticated
from app.extensions import db
from app.models import Admin, ApiToken, utcnow
from app.models.api_tokens import SCOPES
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.people import reauthentication

MARK = "mvb_"
PREFIX_LENGTH = len(MARK) + 6
# "Last used" is for people: one write per minute is enough.
LASTS_DAYS = 365
MOST_DAYS = 3650
# How long before its expiry a token in use is reported.
WARNED_BEFORE = timedelta(days=14)
IN_USE = timedelta(days=30)
LAST_USE_STEP = timedelta(minutes=1)
NAME_LENGTH = 100


def create(
    actor: Actor, name: str, scopes: Iterable[str], password: str | None = None, days: int | None = LASTS_DAYS
) -> tuple[ApiToken, str]:
    """Create a token with some of SCOPES; return its row and its secret, which is not stored. It expires after `days`
    (None: never).

    An admin with a session gives the password again. Raise InvalidInput, Throttled or Unauthenticated.
    """
    given = set(scopes)
    chosen = [scope for scope in SCOPES if scope in given]
    name = name.replace("\0", "").strip()
    problems = {}
    if not name or len(name) > NAME_LENGTH:
        problems["name"] = f"Give the token a name of at most {NAME_LENGTH} characters."
    if given - set(SCOPES) or not chosen:
        problems["scopes"] = f"Choose at least one of {', '.join(SCOPES)}."
    if days is not None and not 1 <= days <= MOST_DAYS:
        problems["days"] = f"Choose from 1 to {MOST_DAYS:,} days."
    if problems:
        raise InvalidInput(problems)
    reauthentication.require(actor, password)
    secret = MARK + secrets.token_urlsafe(32)
    token = ApiToken(
        name=name,
        prefix=secret[:PREFIX_LENGTH],
        secret_hash=_hash(secret),
        scopes=chosen,
        created_by=_maker(actor),
        created_by_name=actor.name,
        expires_at=utcnow() + timedelta(days=days) if days is not None else None,
    )
    db.session.add(token)
    db.session.flush()
    audit.record(actor, "token.created", "token", token.id, {"name": token.name, "scopes": chosen, "days": days})
    db.session.commit()
    return token, secret


def authenticate(secret: str, address: str | None = None) -> ApiToken | None:
    """Return the token of a secret and record its use; None if it is unknown, revoked or expired, or if the admin who
    created it is disabled."""
    statement = (
        select(ApiToken)
        .outerjoin(Admin, Admin.id == ApiToken.created_by)
        .where(ApiToken.secret_hash == _hash(secret), working(), Admin.disabled_at.is_(None))
    )
    token = db.session.scalar(statement)
    if token is not None:
        _note_use(token, address)
    return token


def list_tokens() -> list[ApiToken]:
    """Return all tokens, newest first, including revoked ones."""
    return list(db.session.scalars(select(ApiToken).order_by(ApiToken.created_at.desc(), ApiToken.id)))


def working(now: datetime | None = None) -> ColumnElement[bool]:
    """Return the SQL condition that a token is neither revoked nor expired."""
    unexpired = or_(ApiToken.expires_at.is_(None), ApiToken.expires_at > (now or utcnow()))
    return and_(ApiToken.revoked_at.is_(None), unexpired)


def works(token: ApiToken) -> bool:
    """Return whether a token is neither revoked nor expired."""
    return token.revoked_at is None and (token.expires_at is None or token.expires_at > utcnow())


def ending() -> list[ApiToken]:
    """Return tokens in use that expire soon or expired recently, in order of expiry."""
    now = utcnow()
    soon = ApiToken.expires_at.between(now - WARNED_BEFORE, now + WARNED_BEFORE)
    used = or_(ApiToken.last_used_at > now - IN_USE, ApiToken.last_used_at > ApiToken.expires_at - IN_USE)
    chosen = select(ApiToken).where(ApiToken.revoked_at.is_(None), soon, used)
    return list(db.session.scalars(chosen.order_by(ApiToken.expires_at, ApiToken.id)))


def get(token_id: UUID) -> ApiToken:
    """Return a token by id, even a revoked one. Raise NotFound."""
    token = db.session.get(ApiToken, token_id, populate_existing=True)
    if token is None:
        raise NotFound("There is no such token.")
    return token


def working_of(admin_id: UUID) -> list[ApiToken]:
    """Return the active tokens that an admin created, by name."""
    theirs = select(ApiToken).where(ApiToken.created_by == admin_id, working())
    return list(db.session.scalars(theirs.order_by(ApiToken.name, ApiToken.id)))


def numbers() -> dict[UUID, int]:
    """Return the number of active tokens by admin; admins without one are left out."""
    theirs = select(ApiToken.created_by, func.count()).where(ApiToken.created_by.is_not(None), working())
    counted = db.session.execute(theirs.group_by(ApiToken.created_by))
    return {maker: number for maker, number in counted if maker is not None}


def revoke(actor: Actor, token_id: UUID) -> ApiToken:
    """Revoke a token at once and permanently. Raise NotFound."""
    token = get(token_id)
    if token.revoked_at is None:
        token.revoked_at = utcnow()
        audit.record(actor, "token.revoked", "token", token.id, {"name": token.name})
        db.session.commit()
    return token


def revoke_all_of(actor: Actor, admin_id: UUID) -> int:
    """Revoke the tokens that an admin created, in the current transaction. Return their number."""
    theirs = update(ApiToken).where(ApiToken.created_by == admin_id, ApiToken.revoked_at.is_(None))
    ended = db.session.execute(theirs.values(revoked_at=utcnow()).returning(ApiToken.id, ApiToken.name)).all()
    for token_id, name in ended:
        audit.record(actor, "token.revoked", "token", token_id, {"name": name})
    return len(ended)


def _maker(actor: Actor) -> UUID | None:
    """Return the admin who owns a new token, with the row locked: a concurrent disabling or removal either waits and then
    revokes the token, or came first. Raise Unauthenticated."""
    if actor.kind != "admin" or not actor.id:
        return None
    admin_id = UUID(actor.id)
    enabled = select(Admin.id).where(Admin.id == admin_id, Admin.disabled_at.is_(None))
    if db.session.scalar(enabled.with_for_update(read=True)) is None:
        raise Unauthenticated(reauthentication.GONE)
    return admin_id


def _note_use(token: ApiToken, address: str | None) -> None:
    now = utcnow()
    stale = or_(
        ApiToken.last_used_at.is_(None),
        ApiToken.last_used_at < now - LAST_USE_STEP,
        ApiToken.last_used_address.is_distinct_from(address),
    )
    values = {"last_used_at": now, "last_used_address": address}
    db.session.execute(update(ApiToken).where(ApiToken.id == token.id, stale).values(values))
    db.session.commit()


def _hash(secret: str) -> str:
    # The secret is 256 random bits and can't be guessed, so a fast hash is enough.
    return hashlib.sha256(secret.encode()).hexdigest()
