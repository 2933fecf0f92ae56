"""What is shown once and kept nowhere: it travels, encrypted, in the session's cookie from the form to the page after it."""

import json
from typing import Any
from uuid import UUID

from flask import session

from app.services.installation import sealing

KEY = "shown_once"


def keep(subject: UUID, shown: dict[str, Any]) -> None:
    """Given whose it is and what is to be shown, keep it for the next page."""
    session[KEY] = sealing.seal(json.dumps({"subject": str(subject)} | shown))


def show(subject: UUID) -> dict[str, Any] | None:
    """Given whose it is, return what is to be shown, and forget it; None if it was shown already."""
    text = sealing.unseal(session.get(KEY))
    found: dict[str, Any] | None = json.loads(text) if text else None
    if found is None or found["subject"] != str(subject):
        return None
    del session[KEY]
    return found
