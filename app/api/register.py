"""Connects the API with the app."""

from flask import Flask

from app.api import (
    activity,
    admins,
    backups,
    contents,
    docs,
    health,
    metrics,
    recovery,
    restores,
    retention,
    schedules,
    settings,
    tokens,
    uploads,
)
from app.extensions import csrf

FEATURES = (
    backups,
    contents,
    restores,
    recovery,
    uploads,
    schedules,
    settings,
    retention,
    tokens,
    admins,
    activity,
    health,
    metrics,
    docs,
)


def register(app: Flask) -> None:
    """Register the API and the health checks."""
    for feature in FEATURES:
        app.register_blueprint(feature.bp)
        # Tokens need no CSRF protection; for sessions app.http.auth requires the header.
        csrf.exempt(feature.bp)
