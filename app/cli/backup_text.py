"""Backups as lines of text."""

from __future__ import annotations

from app.cli.formats import moment, size
from app.models import BackupHistory
from app.services.backups.backups import progress
from app.services.history.archive_damage import damage


def line(row: BackupHistory) -> str:
    """Format a backup as one line."""
    marks = (" pinned" if row.pinned else "") + (f" {len(row.warnings)} warnings" if row.warnings else "")
    marks += " DAMAGED" if damage(row) else ""
    name = row.filename or (row.error or "")[:80]
    began = moment(row.started_at or row.created_at)
    return f"{row.id}  {began}  {row.kind:<9} {row.status:<11} {size(row.size_bytes):>8}  {name}{marks}"


def describe(row: BackupHistory) -> str:
    """Format everything known about a backup, one fact a line."""
    facts = {
        "id": row.id,
        "status": row.status,
        "kind": row.kind,
        "file": row.filename,
        "size": f"{size(row.size_bytes)} ({row.size_bytes} bytes)" if row.size_bytes is not None else None,
        "sha256": row.sha256,
        "created": moment(row.created_at),
        "started": moment(row.started_at),
        "finished": moment(row.finished_at),
        "verified": moment(row.verified_at),
        "restored": f"{moment(row.restore_tested_at)} (test)" if row.restore_tested_at else None,
        "contents": _contents(row),
        "pinned": "yes" if row.pinned else "no",
        "note": row.note,
        "requested by": row.requested_by,
        "damaged": damage(row),
        "error": row.error,
    }
    lines = [f"{name + ':':<14}{value}" for name, value in facts.items() if value is not None]
    return "\n".join(lines + [f"{'warning:':<14}{warning}" for warning in row.warnings])


def progress_line(row: BackupHistory) -> str:
    """Format the progress of an unfinished backup; the first word is the phase."""
    view = progress(row)
    percent = f" {view.percent:.0f} %" if view.percent is not None else ""
    rate = f", {size(view.rate_bytes_per_second)}/s" if view.rate_bytes_per_second else ""
    left = f", {view.seconds_left:.0f} s left" if view.seconds_left is not None else ""
    return f"{view.phase or row.status}{percent} {size(view.bytes_done)}{rate}{left}"


def _contents(row: BackupHistory) -> str | None:
    if not row.summary:
        return None
    counts = row.summary
    return f"{counts['tables']} tables, {counts['rows']} rows, {counts['documents']} documents"
