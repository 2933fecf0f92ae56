"""A year of nightly backups behind a new installation, as its pages would tell of it."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

from apiflask import APIFlask
from sqlalchemy import text

from app.extensions import db
from app.models import BackupHistory, BackupSchedule, BackupSlot, utcnow
from app.services.retention import cleanup
from tests.support.application import TESTER

DAYS = 360
FAILED = "The connection to the database was lost while table fuel_logs was read. Check the server's log."
WARNING = "documents/9/photo-4.jpg changed while it was read; the archive has the state it ended with."


def make_history(app: APIFlask, own: BackupHistory, schedule: BackupSchedule, days: int = DAYS) -> int:
    """Simulate a year of a daily schedule, with cleanups. Return the number of remaining backups.

    The archives are links to the real one's file, so that they take no space and can be opened.
    """
    chance = random.Random(7)
    storage: Path = app.config["SETTINGS"].storage_dir
    today = utcnow().astimezone(UTC).date()
    schedule.created_at = utcnow() - timedelta(days=days + 1)
    for ago in range(days, -1, -1):
        due = datetime.combine(today - timedelta(days=ago), time(3), tzinfo=UTC)
        if due > utcnow() - timedelta(minutes=5):
            break
        # The pictures show a system that is well now.
        luck = chance.random() if ago > 7 else 1.0
        # Two days in autumn on which nobody noticed that the machine was off.
        if ago not in (61, 62):
            _night(storage, own, schedule, due, luck, 1 - ago / days * 0.6, chance)
        _clean_up(due + timedelta(minutes=5))
    newest = db.session.query(BackupHistory).filter_by(kind="scheduled").order_by(BackupHistory.started_at.desc()).first()
    assert newest is not None
    schedule.last_run_at, schedule.last_status = newest.started_at, newest.status
    db.session.execute(text("UPDATE audit_log SET at = :at WHERE action LIKE 'schedule.%'"), {"at": schedule.created_at})
    db.session.commit()
    return db.session.query(BackupHistory).count()


def _night(
    storage: Path,
    own: BackupHistory,
    schedule: BackupSchedule,
    due: datetime,
    luck: float,
    growth: float,
    chance: random.Random,
) -> None:
    started = due + timedelta(seconds=chance.uniform(1, 20))
    status = "failed" if luck < 0.02 else "completed"
    row = BackupHistory(
        kind="scheduled",
        status=status,
        schedule_id=schedule.id,
        scheduled_for=due,
        created_at=due,
        started_at=started,
        finished_at=started + timedelta(seconds=chance.uniform(70, 110) * growth),
        verified_at=started + timedelta(seconds=120) if status == "completed" else None,
        requested_by="schedule",
        warnings=[WARNING] if 0.02 <= luck < 0.05 else [],
        summary=own.summary,
        notified_at=started,
    )
    if status == "failed":
        row.error = FAILED
    else:
        row.filename = f"motovaultpro_backup_{started:%Y%m%d_%H%M%S}.tar.gz"
        row.size_bytes, row.sha256 = own.size_bytes, own.sha256
        os.link(storage / str(own.filename), storage / row.filename)
    db.session.add(row)
    db.session.flush()
    slot = BackupSlot(schedule_id=schedule.id, scheduled_for=due, status=status, attempts=1, backup_id=row.id)
    slot.created_at, slot.finished_at = due, row.finished_at
    db.session.add(slot)
    db.session.commit()


def _clean_up(now: datetime) -> None:
    """Delete what the quotas keep no longer, and have the audit log say that it was then."""
    last = db.session.scalar(text("SELECT coalesce(max(id), 0) FROM audit_log"))
    cleanup.cleanup(TESTER, now)
    db.session.execute(text("UPDATE audit_log SET at = :at WHERE id > :last"), {"at": now, "last": last})
    db.session.commit()
