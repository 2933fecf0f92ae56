"""The fixtures of the house, and a browser."""

from __future__ import annotations

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.services import admins
from tests.api.session import sign_in
from tests.house.fixtures import EMAIL, PASSWORD, TESTER, app, environment, make_row, processes, settings, token, worker

__all__ = ["app", "environment", "make_row", "processes", "settings", "token", "worker"]


@pytest.fixture
def browser(app: APIFlask) -> FlaskClient:
    """An admin's session."""
    admins.create(TESTER, EMAIL, PASSWORD)
    return sign_in(app, EMAIL, PASSWORD)
