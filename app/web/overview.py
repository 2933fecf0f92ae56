"""The state of things at the top of the start page."""

from dataclasses import dataclass

from app.services import backups, restores


@dataclass(frozen=True)
class Live:
    """A queued or running backup and how far it is."""

    row: backups.BackupHistory
    progress: backups.ProgressView


@dataclass(frozen=True)
class LastRestore:
    """The queued or running restore, else the last one, and how far it is."""

    row: restores.Restore
    progress: restores.ProgressView


@dataclass(frozen=True)
class Overview:
    last_good: backups.BackupHistory | None
    live: list[Live]
    restore: LastRestore | None

    @property
    def can_undo(self) -> bool:
        """Whether the two states of the last restore can be exchanged now."""
        return self.restore is not None and restores.undo_problem(self.restore.row) is None

    @property
    def manual_live(self) -> backups.BackupHistory | None:
        """The manual backup that keeps another one from starting, if there is one."""
        return next((entry.row for entry in self.live if entry.row.kind == "manual"), None)


def overview() -> Overview:
    """Return the newest completed backup, everything queued or running, and the last restore."""
    completed = backups.list_backups(1, 1, status="completed").items
    rows = [row for status in ("in_progress", "queued") for row in backups.list_backups(1, 10, status=status).items]
    restore = restores.status()
    return Overview(
        completed[0] if completed else None,
        [Live(row, backups.progress(row)) for row in rows],
        LastRestore(restore, restores.progress(restore)) if restore else None,
    )
