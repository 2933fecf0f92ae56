"""Structured logs on stderr, one line each, with every secret of the settings blotted out."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from app.config import Settings


class RedactingFormatter(structlog.stdlib.ProcessorFormatter):
    """Blots secrets out of the finished line, so that no path into the log is forgotten."""

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(**options)
        self._settings = settings

    def format(self, record: logging.LogRecord) -> str:
        """Given a record, return its line without secrets."""
        return self._settings.redact(super().format(record))


def configure(settings: Settings) -> None:
    """Given the settings, send the logs of this process to stderr."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    formatter = RedactingFormatter(
        settings,
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [old for old in root.handlers if not isinstance(old.formatter, RedactingFormatter)] + [handler]
    root.setLevel(logging.INFO)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _render(logger: Any, name: str, event: MutableMapping[str, Any]) -> str:
    return str(
        structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)(
            logger, name, event
        )
    )
