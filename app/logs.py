"""Structured logs on stderr, one line each, with every secret redacted. LOG_FORMAT is `console` or `json`.

A line of a request has its `request_id`, a line of a run its `backup_id` or `restore_id`: bound by `bound`.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import MutableMapping
from typing import Any
from uuid import uuid4

import structlog
from flask import Flask, Response, g, request
from structlog.contextvars import bind_contextvars, bound_contextvars, unbind_contextvars

from app.config import Settings

bound = bound_contextvars
"""`with bound(backup_id=…):` puts the value into every line logged in the block, by any module."""

REQUEST_ID = "X-Request-Id"
# Requested constantly by monitors and browsers.
QUIET = {"static", "bootstrap.static", "health.healthz", "health.readyz", "metrics.show"}
_SECRET_NAMES = re.compile(r"password|secret|token|authorization|cookie|signing_key|credential", re.IGNORECASE)
_IN_TEXT = (
    (re.compile(r"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s/:@\"']*:)[^\s@\"']+(?=@)", re.IGNORECASE), r"\g<head>***"),
    (re.compile(r"(?P<head>\b(?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), r"\g<head>***"),
    (re.compile(r"(?P<head>\b(?:password|sslpassword|token|secret)=)[^\s&\"']+", re.IGNORECASE), r"\g<head>***"),
)
# Characters that control a terminal or split a line: control characters, and marks that change the text direction.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

logger = structlog.get_logger(__name__)


class RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Redact secrets in the finished line, so that every path into the log is covered."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(**options)
        self._settings = settings

    def format(self, record: logging.LogRecord) -> str:
        """Format a record without secrets: ours are found by value, others by their position."""
        line = self._settings.redact(super().format(record))
        for pattern, instead in _IN_TEXT:
            line = pattern.sub(instead, line)
        return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def configure(settings: Settings) -> None:
    """Send the logs of this process, its libraries and its server to stderr."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _without_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    renderer = structlog.processors.JSONRenderer(ensure_ascii=False, default=str)
    formatter = RedactingFormatter(
        settings,
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            renderer if settings.log_format == "json" else _render_for_people,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [old for old in root.handlers if not isinstance(old.formatter, RedactingFormatter)] + [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    _adopt("gunicorn.error")


def register(app: Flask) -> None:
    """Give each request an id, which is in all of its log lines and in its response, and log its outcome.

    A proxy's X-Request-Id is adopted, so that its log and ours can be correlated.
    """
    app.before_request(_begin)
    app.after_request(_finish)
    app.teardown_request(_forget)


def _begin() -> None:
    given = request.headers.get(REQUEST_ID, "")
    g.request_id = given if re.fullmatch(r"[A-Za-z0-9._-]{8,64}", given) else uuid4().hex
    g.request_began = time.monotonic()
    bind_contextvars(request_id=g.request_id)


def _finish(response: Response) -> Response:
    began = g.get("request_began")
    if began is None:
        return response
    response.headers[REQUEST_ID] = g.request_id
    if request.endpoint not in QUIET:
        # The path only: a query string may contain search terms.
        logger.info(
            "request",
            method=request.method,
            path=request.path,
            status=response.status_code,
            milliseconds=round((time.monotonic() - began) * 1000),
            address=request.remote_addr,
        )
    return response


def _forget(_error: BaseException | None) -> None:
    unbind_contextvars("request_id")


def _adopt(name: str) -> None:
    """Route a logger that has handlers of its own through ours."""
    server = logging.getLogger(name)
    if server.handlers:
        server.handlers.clear()
        server.propagate = True


def _without_secrets(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in event:
        if _SECRET_NAMES.search(name):
            event[name] = "***"
    return event


def _render_for_people(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
    return str(
        structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)(
            logger, name, event
        )
    )
