"""The one row of the global settings. Its values are read and changed by `installation/settings.py`."""

from __future__ import annotations

from sqlalchemy.dialects.postgresql import insert

from app.extensions import db
from app.models import BackupSettings


def row() -> BackupSettings:
    """Read the only settings row afresh, creating it on first use."""
    found = db.session.get(BackupSettings, 1, populate_existing=True)
    if found is None:
        db.session.execute(insert(BackupSettings).values(id=1).on_conflict_do_nothing())
        db.session.commit()
        found = db.session.get_one(BackupSettings, 1)
    return found
