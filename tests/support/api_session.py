"""Signing in as a browser does."""

from __future__ import annotations

import re

from apiflask import APIFlask
from flask.testing import FlaskClient


def sign_in(app: APIFlask, email: str, password: str) -> FlaskClient:
    """Given an admin, return a client with their session."""
    client = app.test_client()
    form = {"email": email, "password": password, "csrf_token": csrf_token(client, "/login")}
    answer = client.post("/login", data=form)
    assert answer.status_code == 302, answer.get_data(as_text=True)
    return client


def csrf_token(client: FlaskClient, page: str = "/api/docs") -> str:
    """Given a client, return the CSRF token that a page shows to its session."""
    text = client.get(page).get_data(as_text=True)
    found = re.search(r'name="csrf[-_]token"[^>]*(?:value|content)="([^"]+)"', text)
    assert found, f"{page} holds no CSRF token"
    return found[1]


def csrf_header(client: FlaskClient) -> dict[str, str]:
    """Given a client with a session, return the header that its writes need."""
    return {"X-CSRFToken": csrf_token(client)}
