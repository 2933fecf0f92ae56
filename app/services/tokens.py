"""Keys for machines: made, shown once, checked, revoked."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta
from uuid import UUID

from sqlalchemy import or_, select, update

from app.errors import InvalidInput, NotFound
from app.extensions import db
from app.models import Admin, ApiToken, utcnow
from app.models.api_tokens import SCOPES
from app.services import audit
from app.services.actor import Actor

MARK = "mvb_"
PREFIX_LENGTH = len(MARK) + 6
# "Last used" is for people: one write a minute is enough.
LAST_USE_STEP = timedelta(minutes=1)


def create(actor: Actor, name: str, scopes: Iterable[str]) -> tuple[ApiToken, str]:
    """Given a name and scopes of SCOPES, return the token's row and its secret, which is kept nowhere.

    Raise InvalidInput.
    """
    chosen = [scope for scope in SCOPES if scope in set(scopes)]
    unknown = sorted(set(scopes) - set(SCOPES))
    problems = {}
    if not name.strip() or len(name) > 100:
        problems["name"] = "Give the token a name of at most 100 characters."
    if unknown or not chosen:
        problems["scopes"] = f"Choose from {', '.join(SCOPES)}."
    if problems:
        raise InvalidInput(problems)
    secret = MARK + secrets.token_urlsafe(32)
    token = ApiToken(
        name=name.strip(),
        prefix=secret[:PREFIX_LENGTH],
        secret_hash=_hash(secret),
        scopes=chosen,
        created_by=UUID(actor.id) if actor.kind == "admin" and actor.id else None,
    )
    db.session.add(token)
    db.session.flush()
    audit.record(actor, "token.created", "token", token.id, {"name": token.name, "scopes": chosen})
    db.session.commit()
    return token, secret


def authenticate(secret: str, address: str | None = None) -> ApiToken | None:
    """Given a secret as it was sent, return its token and note its use; None if it is unknown or revoked, or if the
    admin who made it is disabled."""
    statement = (
        select(ApiToken)
        .outerjoin(Admin, Admin.id == ApiToken.created_by)
        .where(ApiToken.secret_hash == _hash(secret), ApiToken.revoked_at.is_(None), Admin.disabled_at.is_(None))
    )
    token = db.session.scalar(statement)
    if token is not None:
        _note_use(token, address)
    return token


def list_tokens() -> list[ApiToken]:
    """Return all tokens, the newest first, revoked ones included."""
    return list(db.session.scalars(select(ApiToken).order_by(ApiToken.created_at.desc(), ApiToken.id)))


def revoke(actor: Actor, token_id: UUID) -> ApiToken:
    """Given a token, end it at once. Raise NotFound."""
    token = db.session.get(ApiToken, token_id)
    if token is None:
        raise NotFound("There is no such token.")
    if token.revoked_at is None:
        token.revoked_at = utcnow()
        audit.record(actor, "token.revoked", "token", token.id, {"name": token.name})
        db.session.commit()
    return token


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
    # The secret is 256 random bits: nothing to guess, so a fast hash is enough.
    return hashlib.sha256(secret.encode()).hexdigest()
