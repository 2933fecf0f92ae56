"""The one place that turns an error into an answer: an error page for browsers, problem+json (RFC 9457) for programs."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import psycopg
import structlog
from apiflask.exceptions import HTTPError
from flask import Flask, Response, current_app, make_response, render_template, request
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm.exc import ObjectDeletedError, StaleDataError
from werkzeug.exceptions import HTTPException

from app.errors import (
    Conflict,
    DomainError,
    Forbidden,
    InvalidInput,
    InvalidRequest,
    NotEnoughSpace,
    NotFound,
    Throttled,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnknownType,
)
from app.extensions import db, login_manager
from app.turns import ClientTooSlow

logger = structlog.get_logger(__name__)

# A subclass has its parent's status.
STATUSES: dict[type[DomainError], int] = {
    InvalidRequest: 400,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    TooLarge: 413,
    UnknownType: 415,
    InvalidInput: 422,
    Throttled: 429,
    Unavailable: 503,
    NotEnoughSpace: 507,
}
SENTENCES = {
    400: "The request could not be understood.",
    401: "Sign in, or send an API token as 'Authorization: Bearer …'.",
    404: "There is nothing at this address.",
    405: "This address does not support that method.",
    408: "The request did not arrive in time. Send it again; if it fails again, check the network in between.",
    413: "What was sent is too large.",
    415: "Send the body as application/json.",
    416: "The archive does not contain the requested bytes.",
    429: "Too many requests. Wait a moment and try again.",
}
# The only page for browsers below /api/.
DOCS_PAGE = "/api/docs"
INTERNAL = "Something went wrong on our side. The log of the web process says what."
CSRF = "The page's CSRF token is missing or has expired. Reload the page and try again; programs send it as X-CSRFToken."


def status_of(error: DomainError) -> int:
    """Return the HTTP status for a domain error."""
    return next((STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES), 400)


def wants_json() -> bool:
    """Tell whether the current request comes from a program rather than a browser."""
    path = request.path
    if path in ("/api", "/healthz", "/readyz", "/metrics") or (path.startswith("/api/") and path != DOCS_PAGE):
        return True
    best = request.accept_mimetypes.best_match(["text/html", "application/problem+json", "application/json"])
    return best is not None and best != "text/html"


def problem(status: int, detail: str, extra: dict[str, Any] | None = None) -> Response:
    """Build the response for an error: problem+json (RFC 9457) with the members of `extra`, or the error page."""
    title = HTTPStatus(status).phrase
    extra = extra or {}
    if wants_json():
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **extra}
        response = make_response(json.dumps(body, default=str), status)
        response.mimetype = "application/problem+json"
    else:
        response = make_response(render_template("errors/error.html", status=status, title=title, detail=detail), status)
    if "retry_after" in extra:
        response.headers["Retry-After"] = str(extra["retry_after"])
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def register(app: Flask) -> None:
    """Install the error handlers of the app."""
    app.register_error_handler(DomainError, _domain_error)
    app.register_error_handler(HTTPError, _validation_error)
    app.register_error_handler(HTTPException, _http_exception)
    app.register_error_handler(ClientTooSlow, lambda _error: problem(408, SENTENCES[408]))
    app.register_error_handler(OperationalError, _database_error)
    app.register_error_handler(psycopg.OperationalError, _database_error)
    app.register_error_handler(PoolTimeout, _crowded)
    app.register_error_handler(ObjectDeletedError, _gone)
    app.register_error_handler(StaleDataError, _overtaken)
    app.register_error_handler(IntegrityError, _overtaken)
    app.register_error_handler(DataError, _data_error)
    app.register_error_handler(Exception, _unexpected)


def _domain_error(error: DomainError) -> Response:
    return problem(status_of(error), error.detail, error.extra)


def _validation_error(error: HTTPError) -> Response:
    """Turn APIFlask's {location: {field: [message]}} into InvalidInput."""
    fields: dict[str, str] = {}
    if isinstance(error.detail, dict):
        for messages_by_field in error.detail.values():
            if isinstance(messages_by_field, dict):
                fields |= {name: "; ".join(messages) for name, messages in messages_by_field.items()}
    if fields:
        return _domain_error(InvalidInput(fields))
    return problem(error.status_code, SENTENCES.get(error.status_code) or error.message or "")


def _http_exception(error: HTTPException) -> Response:
    if error.response is not None or error.code is None or error.code < 400:
        return make_response(error.get_response())
    # Werkzeug reports every broken connection as a bad request.
    if isinstance(error.__context__, ClientTooSlow):
        return problem(408, SENTENCES[408])
    detail = CSRF if isinstance(error, CSRFError) else SENTENCES.get(error.code)
    response = problem(error.code, detail or error.description or error.name)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _gone(error: ObjectDeletedError) -> Response:
    """Handle a row that was deleted between being read and being shown, which no service caught."""
    db.session.rollback()
    logger.info("deleted meanwhile", path=request.path, error=str(error))
    return problem(404, "It has just been deleted.")


def _overtaken(error: StaleDataError | IntegrityError) -> Response:
    """Handle a row that another request changed or deleted before it was written, which no service caught."""
    db.session.rollback()
    logger.warning("overtaken by another request", path=request.path, error=str(error))
    return problem(409, "Something that this needs was changed or deleted at the same time. Reload, then try again.")


def _database_error(error: OperationalError | psycopg.OperationalError) -> Response:
    cause = error.orig if isinstance(error, OperationalError) else error
    if isinstance(cause, psycopg.errors.DeadlockDetected | psycopg.errors.SerializationFailure):
        db.session.rollback()
        logger.warning("two requests conflicted", path=request.path, error=str(cause))
        return problem(409, "Another request changed the same object at the same time. Try again.")
    logger.error("database unreachable", error=str(cause))
    # Rendering the page must not query the database for the current user again.
    login_manager._update_request_context_with_user()
    return problem(503, "The metadata database (DATABASE_URL) can't be reached. Check that the server is running.")


def _crowded(error: PoolTimeout) -> Response:
    logger.error("every connection to the metadata database is in use", path=request.path, error=str(error))
    # Rendering the page must not query the database for the current user again.
    login_manager._update_request_context_with_user()
    return problem(503, "Too many requests need the metadata database at once. Try again in a few seconds.")


def _data_error(error: DataError) -> Response:
    """Handle a value that passed validation but that the database refuses: a NUL byte, a number that is too large."""
    db.session.rollback()
    logger.warning("the database refused a value", path=request.path, error=str(error.orig))
    return problem(422, "The input contains a value that can't be stored: a number that is too large, or a NUL byte.")


def _unexpected(error: Exception) -> Response:
    if current_app.testing and current_app.config.get("PROPAGATE_EXCEPTIONS"):
        raise error
    logger.exception("unexpected error", path=request.path)
    return problem(500, INTERNAL)
