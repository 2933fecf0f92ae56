"""Answers that routes of several features give."""

from __future__ import annotations

from typing import TypeVar

from flask import url_for

from app.api.schemas.backups import BackupOut
from app.models import BackupHistory

Made = TypeVar("Made")

NO_CONTENT = ("", 204)


def queued_backup(row: BackupHistory) -> tuple[BackupOut, int, dict[str, str]]:
    """Answer 202 with a backup that a worker will process, and where to follow it."""
    return BackupOut.of(row), 202, {"Location": url_for("api_backups.get_backup", backup_id=row.id)}


def shown_once(made: Made) -> tuple[Made, int, dict[str, str]]:
    """Answer 201 with something that holds a secret: no cache may keep it."""
    return made, 201, {"Cache-Control": "no-store"}
