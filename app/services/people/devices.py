"""Remember devices that an admin has signed in from, so that strangers at the login page can't lock those out.

The cookie holds a signed random id and the admin's. It grants no access: its holder only gets a separate count of wrong
passwords.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from uuid import UUID

from itsdangerous import BadData, URLSafeTimedSerializer

from app import current

LASTS = timedelta(days=180)
LONGEST = 500


def cookie_name() -> str:
    """Return the name of the cookie of a device that signed in before."""
    return "__Host-device" if current.settings().https else "device"


def issue(admin_id: UUID, present: str | None = None) -> str:
    """Return the cookie for a device that an admin has just signed in from, renewing its id if it has one."""
    device = read(present, admin_id) or secrets.token_urlsafe(16)
    return _serializer().dumps([str(admin_id), device])


def read(cookie: str | None, admin_id: UUID) -> str | None:
    """Return the device's id from its cookie, or None if that is missing, forged, too old or another admin's."""
    owner, device = _parts(cookie)
    return device if owner == str(admin_id) else None


def name(cookie: str | None) -> str | None:
    """Return the device's id from its cookie, whichever admin signed in there; None if it is missing, forged or too old."""
    return _parts(cookie)[1]


def _parts(cookie: str | None) -> tuple[str | None, str | None]:
    if not cookie or len(cookie) > LONGEST:
        return None, None
    try:
        owner, device = _serializer().loads(cookie, max_age=int(LASTS.total_seconds()))
    except (BadData, TypeError, ValueError):
        return None, None
    return str(owner), str(device)


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current.settings().secret_key, salt="device that signed in before")
