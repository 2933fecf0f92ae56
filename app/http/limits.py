"""Rate limits, counted in Redis for all containers together, or per process while Redis is down.

They keep a runaway script from filling the queue or the disk. Wrong passwords are counted in app.services.people.throttle.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from flask import Flask, Response, request
from flask_limiter import ApplicationLimit, Limiter, RequestLimit
from sqlalchemy.exc import SQLAlchemyError

from app.config import Settings
from app.http.auth import SAFE_METHODS, caller
from app.http.errors import problem
from app.services.people import devices


@dataclass(frozen=True)
class Bucket:
    """Requests that are counted together, and how many a minute are allowed at a RATE_LIMIT_FACTOR of 1."""

    name: str
    per_minute: int


API = Bucket("api", 600)
STARTS = Bucket("starts", 30)
UPLOADS = Bucket("uploads", 20)
MESSAGES = Bucket("messages", 6)
LOGINS = Bucket("logins", 30)

# Requests that start real work or reach other machines, from pages and the API. Reading has no stricter limit.
STRICTER = {
    "api_backups.create_backup": STARTS,
    "api_backups.verify_backup": STARTS,
    "api_schedules.run_schedule": STARTS,
    "api_restores.start_restore": STARTS,
    "api_restores.undo_restore": STARTS,
    "api_retention.run_cleanup": STARTS,
    "web.backups.start": STARTS,
    "web.backups.verify": STARTS,
    "web.schedules.run": STARTS,
    "web.restores.confirm": STARTS,
    "web.restores.undo": STARTS,
    "web.retention.clean_up": STARTS,
    "api_uploads.upload_backup": UPLOADS,
    "web.uploads.receive": UPLOADS,
    "api_settings.test_notifications": MESSAGES,
    "web.settings.send_test": MESSAGES,
    "api_admins.invite_admin": MESSAGES,
    "web.admins.invite": MESSAGES,
    "web.auth.login": LOGINS,
    "web.auth.accept": LOGINS,
}


def init_app(app: Flask, settings: Settings) -> None:
    """Limit the app's requests. The app's extensions must already hold the Redis client."""
    factor = settings.rate_limit_factor

    def of_api() -> str:
        return _text(API, factor) if request.path.startswith("/api/") else ""

    def stricter() -> str:
        bucket = None if request.method in SAFE_METHODS else STRICTER.get(request.endpoint or "")
        return _text(bucket, factor) if bucket else ""

    limiter = Limiter(
        caller_name,
        application_limits=[
            ApplicationLimit(of_api, scope=API.name),
            ApplicationLimit(stricter, scope=lambda endpoint: STRICTER[endpoint].name),
        ],
        enabled=factor > 0,
        storage_uri="redis://",
        storage_options={"connection_pool": app.extensions["redis"].connection_pool},
        in_memory_fallback_enabled=True,
        swallow_errors=True,
        on_breach=refuse,
    )
    limiter.init_app(app)


def caller_name() -> str:
    """Return whose requests are counted: a token's, an admin's, a known device's, or those of an address.

    A known device counts separately, so that strangers at the same address cannot use up its attempts to log in.
    """
    try:
        found = caller()
    except SQLAlchemyError:
        found = None
    if found:
        return f"{found.kind}:{found.id}"
    device = devices.name(request.cookies.get(devices.cookie_name()))
    return f"device:{device}" if device else f"address:{request.remote_addr}"


def refuse(limit: RequestLimit) -> Response:
    """Build the response for an exceeded limit."""
    seconds = max(1, math.ceil(limit.window.reset_time - time.time()))
    unit = "second" if seconds == 1 else "seconds"
    detail = f"Too many requests: {limit.limit.amount} a minute are taken here. Try again in {seconds} {unit}."
    return problem(429, detail, {"retry_after": seconds})


def _text(bucket: Bucket, factor: float) -> str:
    return f"{max(1, round(bucket.per_minute * factor))} per minute"
