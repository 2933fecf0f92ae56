"""Work out the consequences of deleting a backup beforehand."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from app.extensions import db
from app.models import BackupHistory, Restore
from app.services.installation.storage import storage
from app.services.restores import restores


@dataclass(frozen=True)
class Consequences:
    """`freed_bytes` is what the archive occupies on the disk now; `others`, `other_verified` and `newest_other` are of the
    other completed backups. `way_back_of` is the newest restore whose state before it is in this backup: `undo_instead` says
    whether that restore can still be undone without it."""

    freed_bytes: int
    others: int
    other_verified: int
    newest_other: BackupHistory | None
    way_back_of: Restore | None
    undo_instead: bool

    @property
    def nothing_left(self) -> bool:
        """Whether nothing could be restored afterwards."""
        return self.others == 0


def consequences(row: BackupHistory) -> Consequences:
    """Return what is deleted with a backup and what remains."""
    completed = select(BackupHistory).where(
        BackupHistory.status == "completed", BackupHistory.damaged.is_(None), BackupHistory.id != row.id
    )
    count = select(func.count()).select_from(completed.subquery())
    verified = select(func.count()).select_from(completed.where(BackupHistory.verified_at.is_not(None)).subquery())
    newest = completed.order_by(BackupHistory.started_at.desc(), BackupHistory.id.desc()).limit(1)
    restore = _restore_with(row)
    return Consequences(
        freed_bytes=_size_on_disk(row.filename),
        others=db.session.scalar(count) or 0,
        other_verified=db.session.scalar(verified) or 0,
        newest_other=db.session.scalar(newest),
        way_back_of=restore,
        undo_instead=restore is not None and restores.undo_problem(restore) is None,
    )


def _restore_with(row: BackupHistory) -> Restore | None:
    mine = select(Restore).where(Restore.safety_backup_id == row.id, Restore.status == "completed")
    return db.session.scalar(mine.order_by(Restore.created_at.desc()).limit(1))


def _size_on_disk(filename: str | None) -> int:
    """Return the archive's size in bytes, or 0 if it is not in the storage."""
    try:
        found = storage().stat(filename) if filename else None
    except OSError:
        return 0
    return found.size if found else 0
