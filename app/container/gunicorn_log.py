"""Format Gunicorn's own lines like the rest of the log: its master process never loads the app, which sets up logging."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

from gunicorn import glogging


class JsonFormatter(logging.Formatter):
    """One object per line, with the names that app/logs.py uses."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        line: dict[str, Any] = {"event": record.getMessage(), "logger": record.name, "level": record.levelname.lower()}
        line["timestamp"] = moment
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Logger(glogging.Logger):
    """For `--logger-class`: follows LOG_FORMAT."""

    def setup(self, cfg: Any) -> None:
        """Set the formatter of Gunicorn's handlers (checked with Gunicorn 23 and 27)."""
        super().setup(cfg)
        if os.environ.get("LOG_FORMAT") != "json":
            return
        for handler in self.error_log.handlers:
            handler.setFormatter(JsonFormatter())
