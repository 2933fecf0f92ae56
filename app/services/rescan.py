"""Rebuild the history from the archives themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

from flask import current_app
from sqlalchemy import select

from app import engine
from app.config import Settings
from app.extensions import db
from app.models import BackupHistory, BackupSchedule, utcnow
from app.models.backup_history import KINDS, LIVE
from app.services import audit, retention_plan, slots
from app.services.actor import Actor
from app.services.figures import figures

Outcome = Literal["added", "known", "foreign", "corrupt", "duplicate", "missing"]


@dataclass(frozen=True)
class Finding:
    """One archive: its file name, what became of it, and a sentence where a person should look."""

    filename: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True)
class RescanReport:
    """What a rescan found, a finding for each archive and for each row whose archive is missing."""

    findings: list[Finding] = field(default_factory=list)

    def of(self, *outcomes: Outcome) -> list[Finding]:
        """Given outcomes, return their findings."""
        return [finding for finding in self.findings if finding.outcome in outcomes]


def rescan(actor: Actor, progress: Callable[[str], None] | None = None) -> RescanReport:
    """Given who asks, read every archive of the storage folder and list again those that the history does not know.

    They come back pinned, so that no cleanup deletes what nobody has looked at. `progress` is called with each file's
    name before it is read.
    """
    settings: Settings = current_app.config["SETTINGS"]
    report = RescanReport()
    archives = engine.list_archives(settings.storage_dir) if settings.storage_dir.is_dir() else []
    known = {name for name in db.session.scalars(select(BackupHistory.filename)) if name}
    for path in archives:
        if path.name in known:
            report.findings.append(Finding(path.name, "known"))
            continue
        if progress is not None:
            progress(path.name)
        report.findings.append(_take_in(settings, path))
    present = {path.name for path in archives}
    for name in sorted(known - present):
        report.findings.append(Finding(name, "missing", "The history lists it, but the file is not there."))
    audit.record(actor, "backup.rescan", "storage", None, {"added": len(report.of("added")), "archives": len(archives)})
    db.session.commit()
    retention_plan.refresh()
    return report


def _take_in(settings: Settings, path: Path) -> Finding:
    checked = engine.verify_archive(path, settings.signing_key)
    manifest = checked.manifest
    if manifest is None or not checked.ok:
        problems = "; ".join(checked.problems) or "It has no manifest."
        return Finding(path.name, "corrupt" if manifest is not None else "foreign", problems)
    if not checked.signed:
        detail = "It was signed with another key. Set BACKUP_SIGNING_KEY to that of the installation that made it."
        return Finding(path.name, "foreign", detail)
    row = db.session.get(BackupHistory, manifest.backup_id, populate_existing=True)
    if row is None:
        row = BackupHistory(id=manifest.backup_id)
        db.session.add(row)
    elif row.status == "completed":
        return Finding(path.name, "duplicate", f"It is a copy of {row.filename}.")
    elif row.status in LIVE:
        return Finding(path.name, "known", "Its backup has not finished yet.")
    _fill(row, path, manifest, checked)
    db.session.commit()
    return Finding(path.name, "added")


def _fill(row: BackupHistory, path: Path, manifest: engine.Manifest, checked: engine.VerifyReport) -> None:
    for column, value in figures(path, manifest, checked.sha256, checked.size_bytes).items():
        setattr(row, column, value)
    row.status = "completed"
    row.kind = manifest.kind if manifest.kind in KINDS else "uploaded"
    row.error = None
    row.pinned = True
    row.created_at = manifest.started_at
    row.verified_at = utcnow()
    row.note = row.note or manifest.labels.get("note")
    row.schedule_id = _schedule(manifest.labels.get("schedule_id"))
    row.requested_by = row.requested_by or "rescan"
    row.notified_at = row.notified_at or utcnow()
    db.session.flush()
    slots.restore_slots(row.id, _slots(manifest.labels.get("slots", "")))


def _slots(label: str) -> list[tuple[UUID, datetime]]:
    """Given a manifest's slots, return each schedule with the time that it was due."""
    found = []
    for pair in label.split():
        schedule_id, _, moment = pair.partition("@")
        try:
            found.append((UUID(schedule_id), datetime.fromisoformat(moment)))
        except ValueError:
            continue
    return found


def _schedule(label: str | None) -> UUID | None:
    """Given a manifest's schedule, return its id if the schedule is still known."""
    try:
        schedule = db.session.get(BackupSchedule, UUID(label)) if label else None
    except ValueError:
        return None
    return schedule.id if schedule is not None else None
