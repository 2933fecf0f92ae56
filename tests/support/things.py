"""One of everything that a page can show, in the databases of a migrated app."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from apiflask import APIFlask

from app.extensions import db
from app.models import BackupHistory, utcnow
from app.services.backups import backups
from app.services.inputs import ScheduleInput
from app.services.people import admins, invitations, tokens
from app.services.recovery import rescan
from app.services.schedules import schedules
from tests.support.application import EMAIL, PASSWORD, TESTER
from tests.support.restore_pages import foreign_archive, make_restore, own_backup

Things = dict[str, str]
NAME = "motovaultpro_backup_"
EVIL = "<b>&\"'` ${7*7} {{7*7}} é🚗 " + "long" * 30
"""A text that must appear as it is, wherever people may type one."""


def make_things(app: APIFlask) -> Things:
    """Create one of everything, inside the app's context, and return their ids by name."""
    own = own_backup(app)
    backups.update(TESTER, own.id, pinned=True, note=EVIL)
    made: dict[str, Any] = {
        "own": own,
        "foreign": _foreign(app),
        "failed": _row("failed", error="pg_dump lost its connection. Check BACKUP_SOURCE_URL."),
        "cancelled": _row("cancelled"),
        "missing": _row("completed", 50, filename=f"{NAME}20260101_000001.tar.gz", size_bytes=19, sha256="ab" * 32),
        "schedule": _schedule(name="Nights", frequency="daily", hour=3, keep_daily=14),
        "schedule_custom": _schedule(name=EVIL[:100], frequency="custom", cron_expression="0 */6 * * 1-5", enabled=False),
    }
    made["warned"] = _with_archive(app, own, 3, warnings=["documents/1/photo.jpg changed while it was read.", EVIL])
    made["safety"] = _with_archive(app, own, 2, kind="safety", note="Before the restore")
    made["restore"] = make_restore(backup_id=own.id, safety_backup_id=made["safety"].id)
    made["restore_failed"] = make_restore("failed", backup_id=own.id, scope="database", finished_at=utcnow())
    made["restore_cancelled"] = make_restore("cancelled", backup_id=own.id, scope="documents", finished_at=utcnow())
    return {name: str(row.id) for name, row in made.items()} | _people()


def make_running(app: APIFlask) -> Things:
    """Make a backup and a restore look as if they were running, inside the app's context; return their ids."""
    progress = {"phase": "documents", "bytes_done": 40_000_000, "bytes_total": 90_000_000, "heartbeat_at": utcnow()}
    backup = _row("in_progress", 0, attempt=1, phase_started_at=utcnow(), **progress)
    restore = make_restore("in_progress", backup_id=backup.id, attempt=1, heartbeat_at=utcnow(), phase="database")
    return {"running": str(backup.id), "restore_running": str(restore.id)}


def _row(status: str, hours_ago: float = 5, **columns: Any) -> BackupHistory:
    started = utcnow() - timedelta(hours=hours_ago)
    values = {"kind": "manual", "created_at": started, "started_at": started, "requested_by": EMAIL}
    if status != "in_progress":
        values["finished_at"] = started + timedelta(seconds=75)
    row = BackupHistory(status=status, **(values | columns))
    db.session.add(row)
    db.session.commit()
    return row


def _with_archive(app: APIFlask, own: BackupHistory, hours_ago: float, **columns: Any) -> BackupHistory:
    storage: Path = app.config["SETTINGS"].storage_dir
    name = f"{NAME}20260101_{int(hours_ago):06}.tar.gz"
    shutil.copyfile(storage / str(own.filename), storage / name)
    archive = {"filename": name, "size_bytes": own.size_bytes, "sha256": own.sha256, "summary": own.summary}
    return _row("completed", hours_ago, **archive, **columns)


def _people() -> Things:
    colleague, disabled = (admins.create(TESTER, f"{name}@example.org", PASSWORD) for name in ("colleague", "former"))
    admins.disable(TESTER, disabled.id)
    token, _ = tokens.create(TESTER, EVIL[:100], ["backup", "restore"])
    revoked, _ = tokens.create(TESTER, "old", ["read"])
    tokens.revoke(TESTER, revoked.id)
    invited = invitations.invite(TESTER, "newcomer@example.org")
    made: dict[str, Any] = {"colleague": colleague, "disabled": disabled, "token": token, "invitation": invited.invitation}
    page = urlsplit(invited.link)._replace(scheme="", netloc="").geturl()
    return {name: str(row.id) for name, row in made.items()} | {"invitation_page": page}


def _schedule(**values: Any) -> Any:
    return schedules.create(TESTER, ScheduleInput(**values))


def _foreign(app: APIFlask) -> BackupHistory:
    storage: Path = app.config["SETTINGS"].storage_dir
    with tempfile.TemporaryDirectory() as folder:
        archive = foreign_archive(Path(folder))
    (storage / f"{NAME}20250101_000000.tar.gz").write_bytes(archive)
    known = {row.id for row in db.session.query(BackupHistory)}
    rescan.rescan(TESTER)
    (found,) = (row for row in db.session.query(BackupHistory) if row.id not in known)
    return found
