"""Storage used by archives, day by day, from existing archives and the audit log's records of deleted ones."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import BigInteger, Date, DateTime, case, cast, func, literal, select, union_all

from app.extensions import db
from app.models import AuditEntry, BackupHistory, utcnow

DAYS = 365
Row = BackupHistory


@dataclass(frozen=True)
class Stored:
    """The backups and bytes stored at the end of a day (UTC)."""

    day: date
    backups: int
    bytes: int


def history(now: datetime | None = None) -> list[Stored]:
    """Return the days of the last year on which something changed, oldest first, the last one today. The first is the day
    before the first archive, or a year ago. Empty if there never was an archive."""
    today = (now or utcnow()).astimezone(UTC).date()
    first = today - timedelta(days=DAYS)
    changes = {max(day, first): (backups, size) for day, backups, size in _changes(first)}
    if not changes:
        return []
    found = [Stored(min(changes) - timedelta(days=1), 0, 0)] if min(changes) > first else []
    backups = size = 0
    for day in sorted({*changes, today}):
        more_backups, more_bytes = changes.get(day, (0, 0))
        backups, size = backups + more_backups, size + more_bytes
        found.append(Stored(day, backups, size))
    return found


def _changes(first: date) -> list[tuple[date, int, int]]:
    """Return each day's change in backups and bytes; changes before `first` count on that day."""
    arrived = case((Row.kind == "uploaded", Row.created_at), else_=Row.finished_at)
    there = select(cast(arrived, Date).label("day"), literal(1).label("backups"), Row.size_bytes.label("size"))
    detail = AuditEntry.detail
    size = cast(detail["size_bytes"].astext, BigInteger)
    known = (detail["stored_at"].astext.is_not(None), detail["status"].astext == "completed")
    deleted = (AuditEntry.action == "backup.deleted", *known)
    came = select(cast(cast(detail["stored_at"].astext, DateTime(timezone=True)), Date), literal(1), size).where(*deleted)
    went = select(cast(AuditEntry.at, Date), literal(-1), -size).where(*deleted)
    events = union_all(there.where(Row.status == "completed"), came, went).subquery()
    day = func.greatest(events.c.day, first)
    chosen = select(day, func.sum(events.c.backups), func.sum(events.c.size)).group_by(day)
    return [(found, int(backups), int(total)) for found, backups, total in db.session.execute(chosen)]
