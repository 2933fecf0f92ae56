"""The configuration of the app that is running."""

from __future__ import annotations

from typing import cast

from flask import current_app

from app.config import Settings


def settings() -> Settings:
    """Return what the running app was configured with. Raise RuntimeError outside an app's context."""
    return cast(Settings, current_app.config["SETTINGS"])
