"""What the OpenAPI document says beside the operations: introduction, tags, problems, ways to prove who one is."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from app.engine.version import VERSION

TITLE = "MotoVaultPro Backup"
PROBLEM = "application/problem+json"
PROBLEM_SCHEMA = {"$ref": "#/components/schemas/ProblemOut"}
BINARY = {"type": "string", "format": "binary"}

INTRODUCTION = """\
Back up and restore one PostgreSQL database and one folder of documents.

**Who asks.** A program sends a token as `Authorization: Bearer mvb_…`; each operation names the scope that it needs
(`read`, `backup`, `restore`, `admin`; `admin` covers all of them, and every scope covers `read`). A page of an admin's
session sends the cookie, and with everything but GET the CSRF token as `X-CSRFToken`.

**Forms.** JSON is snake_case, times are ISO 8601 in UTC, ids are UUIDs. A list is `{items, page, page_size, total}`. A body
that is left out is an empty object; a member that is not known is refused.

**Errors** are `application/problem+json` (RFC 9457): `detail` is a sentence for a person; `errors` names the fields that are
wrong, `id` what stands in the way, `retry_after` the seconds to wait. An address that is not listed here is answered 404, a
method that an address does not take 405.

**What takes long** is answered 202 and done by a worker: ask again at the address in `Location` until `status` is
`completed`, `failed` or `cancelled`. Every second is often enough.
"""

TAGS = {
    "Backups": "Make, look at, download, verify, change and delete backups; upload archives.",
    "Contents": "What is inside an archive, and single documents out of it.",
    "Restores": "Preview, start, follow, stop and undo restores.",
    "Schedules": "When backups are made.",
    "Settings": "Quotas, notifications, limits; what retention keeps and deletes.",
    "Tokens": "Keys for programs.",
    "Admins": "The people who may sign in.",
    "Activity": "Who changed what, when and from where.",
    "Health": "For monitors.",
}

# What may be said of an operation under each status, with an example of `detail`.
PROBLEMS = {
    400: (
        "The body is no JSON, or a session's write lacks its CSRF token.",
        "The body can't be read: it must be JSON, in UTF-8.",
    ),
    401: ("Nobody signed in, and no valid token was sent.", "Sign in, or send an API token as 'Authorization: Bearer …'."),
    403: ("The token lacks the scope.", "This needs a token with the scope 'backup'."),
    404: ("There is no such thing.", "There is no such backup. It may have been deleted."),
    409: (
        "The present state forbids it; `id` names what stands in the way.",
        "A manual backup is already running. Wait until it has finished, or cancel it.",
    ),
    413: ("The body is too large.", "What was sent is too large."),
    415: ("The body is of a type that is not taken.", "Send the body as JSON, with 'Content-Type: application/json'."),
    422: (
        "What was sent breaks a rule; `errors` says which, by field.",
        "Please correct: note: Use at most 2000 characters.",
    ),
    429: (
        "Too many requests, or too many wrong passwords; `retry_after` are the seconds to wait.",
        "Too many requests: 30 a minute are taken here. Try again in 12 seconds.",
    ),
    500: (
        "An error on our side; the log says which.",
        "Something went wrong on our side. The log of the web process says what.",
    ),
    503: ("Something that is needed can't be reached.", "The metadata database (DATABASE_URL) can't be reached."),
    507: ("The disk has too little room.", "The disk of BACKUP_STORAGE_DIR is full. Free some room, then send it again."),
}
MORE_MEMBERS: dict[int, dict[str, Any]] = {
    409: {"id": "6f1c4d0e-7f0b-4f0e-9a53-0d0d8a0f6f11"},
    422: {"errors": {"note": "Use at most 2000 characters."}},
    429: {"retry_after": 12},
}
PROBLEM_HEADERS = {
    401: {"WWW-Authenticate": {"schema": {"const": "Bearer"}}},
    429: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}},
}


def info() -> dict[str, Any]:
    """Return the document's `info`."""
    return {"title": TITLE, "version": VERSION, "description": INTRODUCTION}


def tags() -> list[dict[str, str]]:
    """Return the document's tags, in the order in which they are shown."""
    return [{"name": name, "description": description} for name, description in TAGS.items()]


def security_schemes(cookie_name: str) -> dict[str, Any]:
    """Given the name of the session's cookie, return the ways to prove who one is."""
    return {
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "mvb_…", "description": "An API token."},
        "session": {"type": "apiKey", "in": "cookie", "name": cookie_name, "description": "An admin's session."},
        "csrf": {
            "type": "apiKey",
            "in": "header",
            "name": "X-CSRFToken",
            "description": "What a session sends with everything but GET.",
        },
    }


def problem_name(status: int) -> str:
    """Given a status, return its name among the components: 404 is `NotFound`."""
    return HTTPStatus(status).phrase.title().replace(" ", "")


def problem_responses() -> dict[str, Any]:
    """Return each problem as a response component."""
    return {problem_name(status): _problem(status) for status in PROBLEMS}


def _problem(status: int) -> dict[str, Any]:
    description, detail = PROBLEMS[status]
    example = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    response: dict[str, Any] = {
        "description": description,
        "content": {
            PROBLEM: {
                "schema": PROBLEM_SCHEMA,
                "example": example | MORE_MEMBERS.get(status, {}),
            }
        },
    }
    if status in PROBLEM_HEADERS:
        response["headers"] = PROBLEM_HEADERS[status]
    return response
