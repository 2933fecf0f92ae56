"""What is queued or running, for the top of the list of backups."""

from __future__ import annotations

from dataclasses import dataclass

from app.models import BackupHistory, Restore
from app.services.backups import backups
from app.services.backups.progress import ProgressView, of_restore, progress
from app.services.restores import restores


@dataclass(frozen=True)
class LiveBackup:
    """A queued or running backup and its progress."""

    row: BackupHistory
    progress: ProgressView


@dataclass(frozen=True)
class LiveRestore:
    """A queued or running restore and its progress."""

    row: Restore
    progress: ProgressView


@dataclass(frozen=True)
class Running:
    backups: list[LiveBackup]
    restore: LiveRestore | None

    @property
    def manual(self) -> BackupHistory | None:
        """The manual backup that prevents another one from starting, if there is one."""
        return next((entry.row for entry in self.backups if entry.row.kind == "manual"), None)


def running() -> Running:
    """Return everything that is queued or running."""
    rows = [row for status in ("in_progress", "queued") for row in backups.list_backups(1, 10, status=status).items]
    restore = restores.status()
    live = restore is not None and restore.status in ("queued", "in_progress")
    return Running(
        [LiveBackup(row, progress(row)) for row in rows],
        LiveRestore(restore, of_restore(restore)) if restore is not None and live else None,
    )
