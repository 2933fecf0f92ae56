"""Who calls the API, and what they may do: a token what its scopes allow, an admin's session everything."""

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
    """Open a view to tokens with this scope. Views without this decorator are closed to everybody."""

    def mark(view: View) -> View:
        view.required_scope = scope  # type: ignore[attr-defined]
        return view

    return mark


def protect(blueprint: Blueprint) -> None:
    """Check every request to a blueprint against the scopes of its views."""
    blueprint.before_request(check)
    blueprint.before_request(refuse_repeated)


def caller() -> Actor | None:
    """Identify the sender of the current request by token, else by session; None if that identifies nobody."""
    if "caller" not in g:
        g.scopes = None
        g.caller = _by_token() if request.headers.get("Authorization") else _by_session()
    found: Actor | None = g.caller
    return found


def check() -> None:
    """Authenticate and authorise the request. Raise Unauthenticated, Forbidden, or CSRFError for a session's write without
    the header."""
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
    """Tell whether a token's scopes cover the needed one: `admin` covers all, every scope covers `read`."""
    return needed in scopes or "admin" in scopes or needed == "read"


def actor() -> Actor:
    """Return who makes the current request; only after `check`."""
    found: Actor = g.actor
    return found
