"""The fixtures of the house, and a browser."""

from __future__ import annotations

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.services.people import admins
from tests.support.api_session import sign_in
from tests.support.application import EMAIL, PASSWORD, TESTER, app, environment, make_row, processes, settings, token, worker

__all__ = ["app", "environment", "make_row", "processes", "settings", "token", "worker"]


@pytest.fixture
def browser(app: APIFlask) -> FlaskClient:
    """An admin's session."""
    admins.create(TESTER, EMAIL, PASSWORD)
    return sign_in(app, EMAIL, PASSWORD)
