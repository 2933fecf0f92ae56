"""Rebuild the history from the archives themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID, uuid4

from sqlalchemy import select

from app import current
from app.config import Settings
from app.engine.archive.manifest import Manifest
from app.engine.archive.reader import open_stored
from app.engine.errors import EngineError
from app.engine.proof.check_archive import ArchiveCheck, check_archive
from app.engine.storage.interface import FileInfo
from app.extensions import db
from app.models import BackupHistory, BackupSchedule, utcnow
from app.models.backup_history import KINDS, LIVE
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.backups import archive_sweep
from app.services.history import archive_damage, retention_plan
from app.services.history.figures import figures, of_upload
from app.services.installation.storage import storage
from app.services.schedules import due_slots

Outcome = Literal["added", "known", "corrupt", "duplicate", "missing"]
FOREIGN = "It is not signed: it was made by another program. It is listed as an upload, and restored as untrusted."
OTHER_KEY = (
    "It was signed with another key, so it is listed as an upload, and restored as untrusted. If it is yours, set "
    "BACKUP_SIGNING_KEY to that of the installation that made it, then rescan."
)


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
        """Return the findings with any of these outcomes."""
        return [finding for finding in self.findings if finding.outcome in outcomes]


def rescan(actor: Actor, progress: Callable[[str], None] | None = None) -> RescanReport:
    """Read every archive in the storage folder and list again those that the history does not know.

    They come back pinned, so that no cleanup deletes what nobody has looked at; those that our key has not signed come back
    as uploads. What is damaged is reported and not listed. `progress` is called with each file's
    name before it is read.
    """
    settings = current.settings()
    report = RescanReport()
    archives = storage().archives()
    known = {name for name in db.session.scalars(select(BackupHistory.filename)) if name}
    for filename in archives:
        if filename in known:
            report.findings.append(_known(settings, filename))
            continue
        if progress is not None:
            progress(filename)
        report.findings.append(_take_in(settings, filename))
    for name in sorted(known.difference(archives)):
        report.findings.append(Finding(name, "missing", "The history lists it, but the file is not there."))
    archive_sweep.sweep()
    audit.record(actor, "backup.rescan", "storage", None, {"added": len(report.of("added")), "archives": len(archives)})
    db.session.commit()
    retention_plan.refresh()
    return report


def _known(settings: Settings, filename: str) -> Finding:
    """Compare an archive that the history lists. One that came without its key becomes ours if the key is back."""
    row = db.session.scalar(select(BackupHistory).where(BackupHistory.filename == filename))
    if row is not None and row.status == "completed" and row.size_bytes is not None:
        differs = archive_damage.problem(filename, row.size_bytes, archive_damage.look_at(filename)) or row.damaged
        if differs:
            return Finding(filename, "corrupt", differs)
    if row is None or row.origin != "other_key" or not _signed_by_us(settings, filename):
        return Finding(filename, "known")
    checked = check_archive(storage().local_path(filename), settings.signing_key)
    if not checked.ok or not checked.signed or checked.sha256 != row.sha256:
        return Finding(filename, "corrupt", "; ".join(checked.problems) or "It is not the file that the history lists.")
    row.origin, row.verified_at = "own", utcnow()
    db.session.commit()
    return Finding(filename, "known", "Its signature fits the signing key now.")


def _signed_by_us(settings: Settings, filename: str) -> bool:
    try:
        with open_stored(storage(), filename, settings.signing_key) as reader:
            return bool(reader.manifest.signed)
    except EngineError:
        return False


def _take_in(settings: Settings, filename: str) -> Finding:
    try:
        checked = check_archive(storage().local_path(filename), settings.signing_key)
    except EngineError as error:
        return Finding(filename, "corrupt", str(error))
    if not checked.ok:
        return Finding(filename, "corrupt", "; ".join(checked.problems))
    same = _same_content(checked.sha256)
    if same is not None and same.status == "completed":
        return Finding(filename, "duplicate", f"It is a copy of {same.filename}.")
    if same is not None and same.status in LIVE:
        return Finding(filename, "known", "It is being taken in just now.")
    if checked.signed and checked.manifest is not None:
        return _take_in_ours(filename, checked, checked.manifest)
    file = storage().stat(filename)
    if file is None:
        return Finding(filename, "missing", "The file was removed while it was being read.")
    _list_upload(same, file, checked)
    return Finding(filename, "added", OTHER_KEY if checked.ours else FOREIGN)


def _same_content(sha256: str) -> BackupHistory | None:
    """Return the row of an archive with that content: a completed one if there is, else one under way, else a failed one."""
    rows = list(db.session.scalars(select(BackupHistory).where(BackupHistory.sha256 == sha256)))
    return min(rows, key=lambda row: ("completed", *LIVE, "failed", "cancelled").index(row.status), default=None)


def _take_in_ours(filename: str, checked: ArchiveCheck, manifest: Manifest) -> Finding:
    row = db.session.get(BackupHistory, manifest.backup_id, populate_existing=True)
    if row is None:
        row = BackupHistory(id=manifest.backup_id)
        db.session.add(row)
    elif row.status == "completed":
        return Finding(filename, "duplicate", f"It is another archive of the same backup as {row.filename}.")
    elif row.status in LIVE:
        return Finding(filename, "known", "Its backup has not finished yet.")
    _fill(row, filename, manifest, checked)
    db.session.commit()
    return Finding(filename, "added")


def _list_upload(row: BackupHistory | None, file: FileInfo, checked: ArchiveCheck) -> None:
    """List an archive that our key has not signed as an upload of the time when its file was written. `row`: that of the
    upload that was given up, if there is one."""
    if row is None:
        row = BackupHistory(id=uuid4(), requested_by="rescan")
        db.session.add(row)
    for column, value in of_upload(checked, datetime.fromtimestamp(file.mtime_ns / 1e9, UTC)).items():
        setattr(row, column, value)
    row.status, row.filename, row.error = "completed", file.name, None
    db.session.commit()


def _fill(row: BackupHistory, filename: str, manifest: Manifest, checked: ArchiveCheck) -> None:
    for column, value in figures(filename, manifest, checked.sha256, checked.size_bytes).items():
        setattr(row, column, value)
    row.status = "completed"
    row.kind = manifest.kind if manifest.kind in KINDS else "uploaded"
    row.origin = "own"
    row.error = None
    row.pinned = True
    row.created_at = manifest.started_at
    row.verified_at = utcnow()
    row.note = row.note or manifest.labels.get("note")
    row.schedule_id = _schedule(manifest.labels.get("schedule_id"))
    row.requested_by = row.requested_by or "rescan"
    row.notified_at = row.notified_at or utcnow()
    db.session.flush()
    due_slots.restore_slots(row.id, _slots(manifest.labels.get("slots", "")))


def _slots(label: str) -> list[tuple[UUID, datetime]]:
    """Parse a manifest's slots into schedules and the times at which they were due."""
    found = []
    for pair in label.split():
        schedule_id, _, moment = pair.partition("@")
        try:
            found.append((UUID(schedule_id), datetime.fromisoformat(moment)))
        except ValueError:
            continue
    return found


def _schedule(label: str | None) -> UUID | None:
    """Return the id of a manifest's schedule if it still exists."""
    try:
        schedule = db.session.get(BackupSchedule, UUID(label)) if label else None
    except ValueError:
        return None
    return schedule.id if schedule is not None else None
