"""Where this installation keeps its archives."""

from __future__ import annotations

from app import current
from app.config import Settings
from app.engine.storage.local import LocalStorage


def storage() -> LocalStorage:
    """Return the storage of the running app. Its folder may not exist yet."""
    return storage_of(current.settings())


def storage_of(settings: Settings) -> LocalStorage:
    """Return the storage that the settings name."""
    return LocalStorage(settings.storage_dir)
