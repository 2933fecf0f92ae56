"""Detect archives that change outside this software: mark them as damaged, notify, verify them again, clear the mark."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import bindparam, select, update

from app.extensions import db
from app.models import BackupHistory, utcnow
from app.runs import locks, queue, verification_steps
from app.services.history import archive_damage
from app.services.notifications import notices

logger = structlog.get_logger(__name__)

Row = BackupHistory

# How long until an archive that a verification found damaged is read again: its disk may be readable by then.
READ_AGAIN_AFTER = timedelta(days=1)


def sweep(now: datetime | None = None) -> None:
    """Compare every archive's file with its row. Mark those that differ as damaged, with one message; clear those that are
    back unchanged; verify again those that changed, one at a time. An archive that a verification found damaged, unchanged
    since, is read again once a day.

    Do nothing if no archive at all exists: then the storage is not mounted, which has a health check of its own.
    """
    now = now or utcnow()
    chosen = (Row.id, Row.filename, Row.size_bytes, Row.damaged, Row.file_mtime_ns, Row.heartbeat_at)
    rows = db.session.execute(select(*chosen).where(Row.status == "completed").order_by(Row.created_at.desc())).all()
    files = archive_damage.look()
    if not any(row.filename in files for row in rows):
        return
    marked: dict[UUID, str] = {}
    seen: dict[UUID, int] = {}
    whole, changed = [], []
    for row in rows:
        facts = files.get(row.filename)
        found = archive_damage.problem(row.filename, row.size_bytes, facts)
        if found is not None or facts is None:
            if found and found != row.damaged:
                marked[row.id] = found
        elif row.damaged is None and row.file_mtime_ns is None:
            seen[row.id] = facts.mtime_ns
        elif (
            row.damaged == archive_damage.problem(row.filename, row.size_bytes, None) and row.file_mtime_ns == facts.mtime_ns
        ):
            # Gone and back, unchanged: an unmounted disk.
            whole.append(row.id)
        elif row.file_mtime_ns != facts.mtime_ns or _may_be_whole(row, now):
            changed.append(row.id)
    if seen:
        statement = update(Row.__table__).where(Row.__table__.c.id == bindparam("row_id"))  # type: ignore[arg-type]
        # In the order in which the retention plan writes them; otherwise two writers could deadlock.
        values = [{"row_id": row_id, "mtime_ns": seen[row_id]} for row_id in sorted(seen, key=str)]
        db.session.connection().execute(statement.values(file_mtime_ns=bindparam("mtime_ns")), values)
    if whole:
        db.session.execute(update(Row).where(Row.id.in_(whole)).values(damaged=None))
    if marked:
        _mark(marked, now)
    db.session.commit()
    if changed:
        _verify_again(changed)


def mark(backup_id: UUID, text: str) -> None:
    """Mark a completed backup as damaged, with a message, in the session's transaction."""
    _mark({backup_id: text}, utcnow())


def _mark(found: Mapping[UUID, str], now: datetime) -> None:
    # A deletion holds the archive's lock from before the file is removed until the row is gone.
    held = locks.held({locks.archive_name(row_id) for row_id in found})
    news = []
    for row_id, text in sorted(found.items(), key=lambda pair: str(pair[0])):
        before = db.session.execute(select(Row.filename, Row.damaged).where(Row.id == row_id)).first()
        if before is None or before.filename is None:
            continue
        if locks.archive_name(row_id) in held and archive_damage.look_at(before.filename) is None:
            continue
        statement = update(Row).where(Row.id == row_id, Row.status == "completed", Row.damaged.is_distinct_from(text))
        values: dict[str, Any] = {"damaged": text}
        if before.damaged is not None:
            # An archive that was damaged before is still damaged when it comes back unchanged.
            values["file_mtime_ns"] = None
        if db.session.execute(statement.values(**values).returning(Row.id)).first() is not None:
            logger.error("archive is damaged", backup_id=str(row_id), problem=text)
            if before.damaged is None:
                news.append(text)
    if news:
        notices.damaged(news, now)


def _may_be_whole(row: Any, now: datetime) -> bool:
    """Return whether an archive that is marked as damaged, but has its original size and time, should be read again: the
    problem was its size or name, or it was its content and was found long enough ago."""
    if row.damaged is None:
        return False
    was_read = not row.damaged.startswith(f"{row.filename} ")
    return not was_read or row.heartbeat_at is None or row.heartbeat_at < now - READ_AGAIN_AFTER


def _verify_again(row_ids: list[UUID]) -> None:
    """Request the verification of the first of these, unless one is running: each reads a whole archive."""
    under_way = select(Row.id).where(Row.verify_requested_at.is_not(None), Row.status == "completed").limit(1)
    if db.session.scalar(under_way) is not None:
        return
    # Until it is verified again, nothing relies on an earlier verification.
    db.session.execute(update(Row).where(Row.id.in_(row_ids), Row.verified_at.is_not(None)).values(verified_at=None))
    asked = update(Row).where(Row.id == row_ids[0], Row.status == "completed", Row.verify_requested_at.is_(None))
    asked = asked.values(verify_requested_at=utcnow(), verify_restoring=False, bytes_done=0, bytes_total=Row.size_bytes)
    found = db.session.execute(asked.returning(Row.id)).first()
    db.session.commit()
    if found is not None:
        logger.warning("archive has changed and will be verified again", backup_id=str(row_ids[0]))
        queue.enqueue(queue.BACKUPS, queue.VERIFY_JOB, row_ids[0], verification_steps.job_id(row_ids[0]))
