"""The JSON API: the same services as the pages, for machines."""

from flask import Flask

from app.api import backups, contents, health, metrics, restores, schedules, settings, uploads
from app.extensions import csrf


def init_app(app: Flask) -> None:
    """Given the app, register the API and the health checks."""
    for blueprint in (backups.bp, contents.bp, restores.bp, uploads.bp, schedules.bp, settings.bp, health.bp, metrics.bp):
        app.register_blueprint(blueprint)
        # Tokens need no CSRF guard; for sessions app.api.auth asks for the header.
        csrf.exempt(blueprint)
