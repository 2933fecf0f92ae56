"""Archives and restores for the tests of their pages."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from apiflask import APIFlask

from app.engine.backup.backup import BackupRequest, make_backup
from app.extensions import db
from app.models import BackupHistory, Restore, utcnow
from app.services.backups import backups
from app.services.installation.source import source_of
from app.services.recovery import rescan
from tests.support import hostile
from tests.support.application import EMAIL, TESTER

TRIGGER = b"CREATE FUNCTION public.greet() RETURNS text LANGUAGE sql AS $$ SELECT 'hello' $$;"


def own_backup(app: APIFlask) -> BackupHistory:
    """Make a real archive of the app's source, list it, and return its row."""
    settings = app.config["SETTINGS"]
    source = source_of(settings)
    make_backup(BackupRequest(source, settings.storage_dir, settings.signing_key, backup_id := uuid4()))
    rescan.rescan(TESTER)
    return backups.get(backup_id)


def foreign_archive(folder: Path) -> bytes:
    """Return a plain .tar.gz with a table, a function and a document."""
    members = [
        hostile.dump_member(hostile.dump_of(TRIGGER)),
        hostile.folder("documents/"),
        hostile.entry("documents/one.txt", b"one"),
    ]
    return hostile.write_archive(folder / "elsewhere.tar.gz", members).read_bytes()


def make_restore(status: str = "completed", **columns: Any) -> Restore:
    """Add a restore's row with a status and other columns, and return it."""
    now = utcnow()
    values: dict[str, Any] = {"scope": "all", "requested_by": EMAIL, "created_at": now - timedelta(minutes=5)}
    if status != "queued":
        values["started_at"] = now - timedelta(minutes=4)
    if status == "failed":
        values["error"] = "The archive is damaged: a block of table vehicles does not match its hash."
    if status == "completed":
        tables = [
            {"schema": "public", "name": "vehicles", "rows_before": 10, "rows_after": 1000},
            {"schema": "public", "name": "users", "rows_before": 4, "rows_after": 4},
            {"schema": "old", "name": "later", "rows_before": 1, "rows_after": None},
        ]
        values |= {
            "finished_at": now - timedelta(minutes=3),
            "undo_until": now + timedelta(hours=23, minutes=57),
            "result": {"tables": tables, "documents_before": 11, "documents_after": 312, "gap_seconds": 0.113},
        }
    row = Restore(status=status, **(values | columns))
    db.session.add(row)
    db.session.commit()
    return row
