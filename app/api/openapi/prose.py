"""The parts of the OpenAPI document besides the operations: introduction, tags, problems, authentication."""

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

**Authentication.** A program sends a token as `Authorization: Bearer mvb_…`; each operation names the scope that it needs
(`read`, `backup`, `restore`, `admin`; `admin` covers all of them, and every scope covers `read`). A page in an admin's
session sends the cookie, and with every method but GET the CSRF token as `X-CSRFToken`.

**Conventions.** JSON is snake_case, times are ISO 8601 in UTC, ids are UUIDs. A list is `{items, page, page_size, total}`. A
missing body counts as an empty object; unknown fields are rejected.

**Errors** are `application/problem+json` (RFC 9457): `detail` is a sentence for people; `errors` lists the invalid
fields, `id` names what blocks the request, `retry_after` is in seconds. A path that is not listed here gets 404, a method
that a path does not support 405.

**Long operations** are answered with 202 and run by a worker: poll the URL in `Location` until `status` is `completed`,
`failed` or `cancelled`. Once a second is enough.
"""

TAGS = {
    "Backups": "Create, list, download, verify, change and delete backups; upload archives.",
    "Contents": "What is inside an archive, and its single documents.",
    "Restores": "Preview, start, follow, cancel and undo restores.",
    "Schedules": "When backups run.",
    "Settings": "Quotas, notifications, limits; what retention keeps and deletes.",
    "Tokens": "API tokens, for programs.",
    "Admins": "The people who may sign in.",
    "Activity": "The audit log: who changed what, when and from where.",
    "Health": "Health checks and metrics, for monitoring.",
}

# For each status its description and an example of `detail`.
PROBLEMS = {
    400: (
        "The body is not valid JSON, or a session's write lacks the CSRF token.",
        "The body can't be read: it must be JSON, in UTF-8.",
    ),
    401: ("No session, and no valid token was sent.", "Sign in, or send an API token as 'Authorization: Bearer …'."),
    403: ("The token lacks the scope.", "This needs a token with the scope 'backup'."),
    404: ("It does not exist.", "There is no such backup. It may have been deleted."),
    409: (
        "The current state does not allow it; `id` names what blocks it.",
        "A manual backup is already running. Wait until it has finished, or cancel it.",
    ),
    413: ("The body is too large.", "What was sent is too large."),
    415: ("The content type of the body is not supported.", "Send the body as JSON, with 'Content-Type: application/json'."),
    422: (
        "The input is invalid; `errors` says why, by field.",
        "Please correct: note: Use at most 2000 characters.",
    ),
    429: (
        "Too many requests, or too many wrong passwords; `retry_after` is the number of seconds to wait.",
        "Too many requests: 30 a minute are taken here. Try again in 12 seconds.",
    ),
    500: (
        "An internal error; details are in the log.",
        "Something went wrong on our side. The log of the web process says what.",
    ),
    503: ("A required server cannot be reached.", "The metadata database (DATABASE_URL) can't be reached."),
    507: ("There is not enough disk space.", "The disk of BACKUP_STORAGE_DIR is full. Free some room, then send it again."),
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
    """Return the document's tags in display order."""
    return [{"name": name, "description": description} for name, description in TAGS.items()]


def security_schemes(cookie_name: str) -> dict[str, Any]:
    """Return the ways to authenticate."""
    return {
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "mvb_…", "description": "An API token."},
        "session": {"type": "apiKey", "in": "cookie", "name": cookie_name, "description": "An admin's session."},
        "csrf": {
            "type": "apiKey",
            "in": "header",
            "name": "X-CSRFToken",
            "description": "Sent by a session with every method but GET.",
        },
    }


def problem_name(status: int) -> str:
    """Return the component name of a status: `NotFound` for 404."""
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
