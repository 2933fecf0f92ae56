"""MotoVaultPro Backup: backup and restore for apps made of a PostgreSQL database and a folder of documents."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apiflask import APIFlask

    from app.config import Settings


def create_app(settings: Settings | None = None) -> APIFlask:
    """Create the application from settings (default: the environment's). Raise ConfigError. Connect to nothing."""
    # Not at the top: `app.engine` must be importable where there is no Flask.
    from app.factory import build  # noqa: PLC0415 - see above

    return build(settings)
