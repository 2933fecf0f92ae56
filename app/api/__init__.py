"""The JSON API: the same services as the pages, for machines."""

from flask import Flask

from app.api import (
    activity,
    admins,
    backups,
    contents,
    docs,
    health,
    metrics,
    restores,
    schedules,
    settings,
    tokens,
    uploads,
)
from app.extensions import csrf

PARTS = (backups, contents, restores, uploads, schedules, settings, tokens, admins, activity, health, metrics, docs)


def init_app(app: Flask) -> None:
    """Given the app, register the API and the health checks."""
    for part in PARTS:
        app.register_blueprint(part.bp)
        # Tokens need no CSRF guard; for sessions app.http.auth asks for the header.
        csrf.exempt(part.bp)
