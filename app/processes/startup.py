"""Checks of web, worker, scheduler and commands before they start."""

from __future__ import annotations

import structlog
from flask import Flask
from sqlalchemy import inspect

from app.config import ConfigError, Settings
from app.errors import InvalidInput
from app.extensions import db
from app.services.installation.source import source_problem
from app.services.people import admins
from app.services.people.guessable import is_hopeless_key

HOPELESS_KEY = (
    "SECRET_KEY can be guessed: it is a placeholder, a repetition or a row of keys. "
    "Create one: python3 -c 'import secrets; print(secrets.token_hex(32))'"
)
logger = structlog.get_logger(__name__)


def check_start(app: Flask) -> None:
    """Check that source and metadata are two databases and that the metadata database is usable; create the first admin.

    Raise ConfigError with a line that names the setting. An unreachable source is only logged: the pages must be available
    on the day when the source is broken, and each backup checks it again.
    """
    settings: Settings = app.config["SETTINGS"]
    problem = source_problem(settings)
    if problem:
        logger.warning("the source database can't be reached", detail=problem)
    with app.app_context():
        if not inspect(db.engine).has_table("backup_history"):
            raise ConfigError(["DATABASE_URL: the tables are missing. Run `flask db upgrade` first."])
        if is_hopeless_key(settings.secret_key):
            # An installation with an admin is in use: `flask doctor` warns, and says how to change the key.
            if not admins.list_admins():
                raise ConfigError([HOPELESS_KEY])
            logger.warning("SECRET_KEY can be guessed; see `flask doctor`")
        try:
            admins.ensure_first_admin(settings)
        except InvalidInput as error:
            raise ConfigError([f"ADMIN_{name.upper()}: {text}" for name, text in error.fields.items()]) from None
        db.session.remove()
        db.engine.dispose()
