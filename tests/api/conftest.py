"""A browser's session, a machine that may do everything, and a real web process."""

from __future__ import annotations

from tests.support.api_session import browser, client
from tests.support.web_server import web

__all__ = ["browser", "client", "web"]
