"""The app on real servers, and a visitor of its pages."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask

from app.extensions import db
from app.models import BackupHistory, utcnow
from app.services.people import admins
from tests.support.application import EMAIL, PASSWORD, TESTER, app, environment, settings
from tests.support.browser import Browser

__all__ = ["EMAIL", "PASSWORD", "admin", "app", "environment", "make_row", "settings", "visitor"]


@pytest.fixture
def visitor(app: APIFlask) -> Browser:
    """Somebody who has not logged in, where there is one admin."""
    admins.create(TESTER, EMAIL, PASSWORD)
    return Browser(app.test_client())


@pytest.fixture
def admin(visitor: Browser) -> Browser:
    """The admin, logged in."""
    visitor.log_in(EMAIL, PASSWORD)
    return visitor


@pytest.fixture
def make_row(app: APIFlask, storage_dir: Path) -> Callable[..., BackupHistory]:
    """A function that adds a backup's row with the given columns; a completed one has its file."""
    number = 0

    def make(status: str = "completed", **columns: Any) -> BackupHistory:
        nonlocal number
        number += 1
        started = utcnow() - timedelta(hours=number)
        values: dict[str, Any] = {"kind": "manual", "created_at": started, "requested_by": EMAIL}
        if status != "queued":
            values["started_at"] = started
        if status == "failed":
            values["error"] = "pg_dump lost its connection. Check BACKUP_SOURCE_URL."
        if status == "completed":
            name = f"motovaultpro_backup_20260101_{number:06}.tar.gz"
            (storage_dir / name).write_bytes(b"the archive's bytes")
            os.truncate(storage_dir / name, columns.get("size_bytes") or 19)
            values |= {
                "finished_at": started + timedelta(seconds=75),
                "filename": name,
                "size_bytes": 19,
                "sha256": "ab" * 32,
                "summary": {
                    "tables": 14,
                    "rows": 48210,
                    "documents": 312,
                    "documents_bytes": 98_000_000,
                    "server_version": "18.4",
                },
            }
        row = BackupHistory(status=status, **(values | columns))
        db.session.add(row)
        db.session.commit()
        return row

    return make
