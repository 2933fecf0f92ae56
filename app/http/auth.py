"""Who calls the API, and what they may: a token by its scopes, an admin's session everything."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Blueprint, current_app, g, request
from flask_login import current_user

from app.errors import Forbidden, Unauthenticated
from app.extensions import csrf
from app.http.errors import SENTENCES
from app.http.request import refuse_repeated
from app.services.audit.actor import Actor
from app.services.people import tokens

View = TypeVar("View", bound=Callable[..., Any])
WRONG_TOKEN = "The token is unknown, revoked or expired. Send 'Authorization: Bearer <token>'."
SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def requires(scope: str) -> Callable[[View], View]:
    """Given a scope, mark a view as open to tokens that have it. A view without the mark is open to nobody."""

    def mark(view: View) -> View:
        view.required_scope = scope  # type: ignore[attr-defined]
        return view

    return mark


def protect(blueprint: Blueprint) -> None:
    """Given a blueprint, let only those in whom its views' marks allow."""
    blueprint.before_request(check)
    blueprint.before_request(refuse_repeated)


def caller() -> Actor | None:
    """Return who sends the current request, by its token or else by its session; None if nobody is known by them."""
    if "caller" not in g:
        g.scopes = None
        g.caller = _by_token() if request.headers.get("Authorization") else _by_session()
    found: Actor | None = g.caller
    return found


def check() -> None:
    """Find out who calls. Raise Unauthenticated, Forbidden, or CSRFError for a session's write without the header."""
    scope = getattr(current_app.view_functions[request.endpoint or ""], "required_scope", None)
    found = caller()
    if found is None:
        raise Unauthenticated(WRONG_TOKEN if request.headers.get("Authorization") else SENTENCES[401])
    if found.kind == "token" and (scope is None or not allows(g.scopes, scope)):
        raise Forbidden(f"This needs a token with the scope '{scope}'.")
    if scope is None:
        raise Forbidden("Nobody may do this.")
    if found.kind == "admin" and request.method not in SAFE_METHODS:
        csrf.protect()
    g.actor = found


def _by_token() -> Actor | None:
    kind, _, secret = request.headers["Authorization"].partition(" ")
    token = tokens.authenticate(secret.strip(), request.remote_addr) if kind.lower() == "bearer" else None
    if token is None:
        return None
    g.scopes = list(token.scopes)
    return Actor("token", str(token.id), token.name, request.remote_addr)


def _by_session() -> Actor | None:
    if not current_user.is_authenticated:
        return None
    user = current_user
    return Actor("admin", str(user.id), user.email, request.remote_addr, session_id=str(user.session_id))


def allows(scopes: list[str], needed: str) -> bool:
    """Given a token's scopes, return whether they cover the needed one: `admin` covers all, every one covers `read`."""
    return needed in scopes or "admin" in scopes or needed == "read"


def actor() -> Actor:
    """Return who makes the current request."""
    found: Actor = g.actor
    return found
