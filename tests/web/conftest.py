"""A visitor of the pages, and an admin."""

from __future__ import annotations

import pytest
from apiflask import APIFlask

from app.services.people import admins
from tests.support.application import EMAIL, PASSWORD, TESTER
from tests.support.browser import Browser


@pytest.fixture
def visitor(app: APIFlask) -> Browser:
    """Somebody who has not logged in, where there is one admin."""
    admins.create(TESTER, EMAIL, PASSWORD)
    return Browser(app.test_client())


@pytest.fixture
def admin(visitor: Browser) -> Browser:
    """The admin, logged in."""
    visitor.log_in(EMAIL, PASSWORD)
    return visitor
