"""The progress of a run, in one shape for page, JSON and command line."""

from __future__ import annotations

from dataclasses import dataclass

from app.models import BackupHistory, Restore

# A rate from less than this much time is noise.
SETTLED_SECONDS = 2.0


@dataclass(frozen=True)
class ProgressView:
    """`percent` (0 to 100), rate and time left are those of the current phase, or None if unknown."""

    phase: str | None
    percent: float | None
    bytes_done: int
    bytes_total: int | None
    rate_bytes_per_second: float | None
    seconds_left: float | None


def progress(row: BackupHistory) -> ProgressView:
    """Return a backup's progress."""
    done, total = row.bytes_done, row.bytes_total
    percent = min(100.0, 100.0 * done / total) if total else None
    if row.status == "completed" and row.verify_requested_at is None:
        return ProgressView(None, 100.0, done, total, None, None)
    rate = _rate(row)
    left = max(0, total - done) / rate if rate and total else None
    return ProgressView(row.phase, percent, done, total, rate, left)


def of_restore(row: Restore) -> ProgressView:
    """Return a restore's progress."""
    done, total = row.bytes_done, row.bytes_total
    if row.status == "completed":
        return ProgressView(None, 100.0, done, total, None, None)
    percent = min(100.0, 100.0 * done / total) if total else None
    rate = _rate(row)
    left = max(0, total - done) / rate if rate and total else None
    return ProgressView(row.phase, percent, done, total, rate, left)


def _rate(row: BackupHistory | Restore) -> float | None:
    if row.phase_started_at is None or row.heartbeat_at is None or row.phase is None or row.bytes_done <= 0:
        return None
    seconds = (row.heartbeat_at - row.phase_started_at).total_seconds()
    return row.bytes_done / seconds if seconds >= SETTLED_SECONDS else None
