"""Sessions and answers of the API: a browser's, a machine's, and the problems that it answers with."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.services.people import admins
from tests.support.application import EMAIL, PASSWORD, TESTER


@pytest.fixture
def browser(app: APIFlask) -> FlaskClient:
    """An admin's session."""
    admins.create(TESTER, EMAIL, PASSWORD)
    return sign_in(app, EMAIL, PASSWORD)


@pytest.fixture
def client(app: APIFlask, token: Callable[..., dict[str, str]]) -> FlaskClient:
    """A machine with an admin's token."""
    return machine(app, token("admin"))


def machine(app: APIFlask, header: dict[str, str]) -> FlaskClient:
    """Return a client that sends a token's header with every request."""
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = header["Authorization"]
    return client


def sign_in(app: APIFlask, email: str, password: str) -> FlaskClient:
    """Sign an admin in as a browser does, and return the client with their session."""
    client = app.test_client()
    form = {"email": email, "password": password, "csrf_token": csrf_token(client, "/login")}
    answer = client.post("/login", data=form)
    assert answer.status_code == 302, answer.get_data(as_text=True)
    return client


def csrf_token(client: FlaskClient, page: str = "/api/docs") -> str:
    """Return the CSRF token that a page shows to the client's session."""
    text = client.get(page).get_data(as_text=True)
    found = re.search(r'name="csrf[-_]token"[^>]*(?:value|content)="([^"]+)"', text)
    assert found, f"{page} holds no CSRF token"
    return found[1]


def csrf_header(client: FlaskClient) -> dict[str, str]:
    """Return the header that writes of the client's session need."""
    return {"X-CSRFToken": csrf_token(client)}


def problem(answer: Any, status: int) -> dict[str, Any]:
    """Check that an answer is a problem document (RFC 9457) of that status, and return it."""
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    body: dict[str, Any] = answer.get_json()
    assert body["status"] == status
    assert body["title"]
    assert len(body["detail"]) > 10
    return body


def field_errors(answer: Any) -> dict[str, str]:
    """Check that an answer refuses its input, and return its message for each field."""
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
    body = answer.get_json()
    assert body["detail"]
    errors: dict[str, str] = body["errors"]
    return errors
