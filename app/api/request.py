"""How a request's body is read."""

from __future__ import annotations

from typing import Any

from flask import Request as FlaskRequest


class Request(FlaskRequest):
    """A request whose missing JSON body is an empty object: `curl -X POST` alone starts a backup."""

    def get_json(self, *args: Any, **options: Any) -> Any:
        """Return the JSON body; an empty body is {}."""
        if not self.get_data(cache=True):
            return {}
        return super().get_json(*args, **options)
