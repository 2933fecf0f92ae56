"""Secrets shown once and stored nowhere: they travel, encrypted, in the session cookie, from a form to the next page."""

import json
from typing import Any
from uuid import UUID

from flask import session

from app.services.installation import sealing

KEY = "shown_once"


def keep(subject: UUID, shown: dict[str, Any]) -> None:
    """Keep the values to show for a subject until the next page."""
    session[KEY] = sealing.seal(json.dumps({"subject": str(subject)} | shown))


def show(subject: UUID) -> dict[str, Any] | None:
    """Return the values to show for a subject and forget them; None if they were shown already."""
    text = sealing.unseal(session.get(KEY))
    found: dict[str, Any] | None = json.loads(text) if text else None
    if found is None or found["subject"] != str(subject):
        return None
    del session[KEY]
    return found
