"""Delete backups that retention no longer keeps, file first, row last; and remove obsolete rows and files."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import delete, select

from app import current
from app.extensions import db
from app.models import BackupHistory, BackupSlot, Notification, utcnow
from app.runs import locks
from app.services.audit import audit, audit_chain
from app.services.audit.actor import Actor
from app.services.history import archive_damage, figures, retention_plan
from app.services.installation.storage import storage
from app.services.notifications import notices
from app.services.recovery import backup_recovery
from app.services.schedules import last_ticks

logger = structlog.get_logger(__name__)

DAILY_HOUR = 4
# How long after 04:00 the scheduler may still tick before the missed cleanup is run.
GRACE = timedelta(minutes=10)
FAILED_KEPT = timedelta(days=30)
SLOTS_KEPT = timedelta(days=400)
NOTIFICATIONS_KEPT = timedelta(days=90)
NAMES_RECORDED = 200


@dataclass
class CleanupReport:
    """The result of a cleanup: names of archives deleted, skipped because they are in use, and not in the history;
    sentences on problems; the numbers of failed rows deleted and of rows whose file is missing or damaged."""

    deleted: list[str] = field(default_factory=list)
    freed_bytes: int = 0
    in_use: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    failed_rows: int = 0
    orphans: list[str] = field(default_factory=list)
    missing: int = 0
    damaged: int = 0


def daily_if_missed(now: datetime | None = None) -> CleanupReport | None:
    """Run the cleanup of 04:00 UTC if it was missed, at the minute tick. Return its report, or None."""
    now = now or utcnow()
    last = last_ticks.last(last_ticks.CLEANUP)
    due = now.astimezone(UTC).replace(hour=DAILY_HOUR, minute=0, second=0, microsecond=0)
    due = due if now >= due else due - timedelta(days=1)
    if now - due < GRACE or (last is not None and last >= due):
        return None
    return daily(now)


def daily(now: datetime | None = None) -> CleanupReport | None:
    """Run the cleanup of 04:00 UTC. Return its report, or None if another container is already doing so."""
    now = now or utcnow()
    report = cleanup(Actor.system("daily cleanup"), now)
    if report is not None:
        last_ticks.ran(last_ticks.CLEANUP, now)
    return report


def cleanup(actor: Actor, now: datetime | None = None) -> CleanupReport | None:
    """Delete backups that no quota protects, old failed rows, and abandoned partial files. Return the report, or None if
    another cleanup is running."""
    now = now or utcnow()
    with locks.holding(locks.CLEANUP) as lock:
        if lock is None:
            return None
        report = CleanupReport()
        try:
            _delete_archives(actor, now, report)
        except retention_plan.StorageAway as error:
            report.trouble.append(str(error))
        _delete_failed_rows(now, report)
        _delete_old_records(now)
        audit_chain.cut(now)
        backup_recovery.remove_stray_partials()
        _find_orphans(report)
        retention_plan.refresh(now)
        audit.record(actor, "retention.cleanup", "storage", None, _summary(report))
        db.session.commit()
        if report.trouble:
            notices.cleanup_trouble(report.trouble, now)
        return report


def _delete_archives(actor: Actor, now: datetime, report: CleanupReport) -> None:
    plan, _, stock = retention_plan.current(now)
    report.missing, report.damaged = len(stock.missing), len(stock.damaged)
    pillars = retention_plan.pillars(plan)
    leaving = [decision.backup for decision in reversed(plan.deleted)]
    used = retention_plan.in_use([backup.id for backup in leaving])
    for backup in leaving:
        # A cleanup may take a while, so the files that it relies on are checked again before each deletion.
        for filename, size_bytes in pillars:
            lost = archive_damage.problem(filename, size_bytes, archive_damage.look_at(filename))
            if lost:
                report.trouble.append(f"Nothing more was deleted: {lost}")
                return
        _delete_archive(actor, backup.id, backup.id in used, report)


def _delete_archive(actor: Actor, backup_id: UUID, used: bool, report: CleanupReport) -> None:
    with locks.holding(locks.archive_name(backup_id)) as lock:
        # A concurrent pin either waits until the row is gone, or is visible here.
        chosen = select(BackupHistory).where(BackupHistory.id == backup_id).with_for_update()
        row = db.session.scalar(chosen.execution_options(populate_existing=True))
        if row is None or row.status != "completed" or row.pinned or not row.filename:
            db.session.rollback()
            return
        if lock is None or used:
            report.in_use.append(row.filename)
            db.session.rollback()
            return
        try:
            storage().delete(row.filename)
        except OSError as error:
            row.error = f"Cleanup could not delete the archive: {error.strerror}. Check the rights of BACKUP_STORAGE_DIR."
            report.trouble.append(f"{row.filename}: {row.error}")
            db.session.commit()
            return
        report.deleted.append(row.filename)
        report.freed_bytes += row.size_bytes or 0
        detail = figures.remembered(row) | {"by": "retention"}
        audit.record(actor, "backup.deleted", "backup", row.id, detail)
        db.session.delete(row)
        db.session.commit()


def _delete_failed_rows(now: datetime, report: CleanupReport) -> None:
    """Delete rows of backups that failed a month ago, except those whose slots are being retried."""
    tried_again = select(BackupSlot.backup_id).where(
        BackupSlot.status.in_(("pending", "running")), BackupSlot.backup_id.is_not(None)
    )
    old = (
        BackupHistory.status.in_(("failed", "cancelled")),
        BackupHistory.created_at < now - FAILED_KEPT,
        # An upload is pinned on arrival, even if it is refused later.
        ~BackupHistory.pinned | (BackupHistory.kind == "uploaded"),
        BackupHistory.filename.is_(None),
        BackupHistory.id.not_in(tried_again),
    )
    for backup_id in db.session.scalars(select(BackupHistory.id).where(*old)).all():
        storage().remove_partials(backup_id)
        db.session.execute(delete(BackupHistory).where(BackupHistory.id == backup_id, *old))
        report.failed_rows += 1
    db.session.commit()


def _delete_old_records(now: datetime) -> None:
    """Delete slots without a backup, and messages, once they are old."""
    closed = BackupSlot.status.in_(("completed", "failed", "cancelled"))
    gone = (closed, BackupSlot.backup_id.is_(None), BackupSlot.scheduled_for < now - SLOTS_KEPT)
    db.session.execute(delete(BackupSlot).where(*gone))
    sent = Notification.status.in_(("sent", "failed"))
    db.session.execute(delete(Notification).where(sent, Notification.created_at < now - NOTIFICATIONS_KEPT))
    db.session.commit()


def _find_orphans(report: CleanupReport) -> None:
    """List the archives that are not in the history. They are never deleted, since nobody has reviewed them."""
    known = set(db.session.scalars(select(BackupHistory.filename)))
    live = select(BackupHistory.id).where(BackupHistory.status == "in_progress").limit(1)
    if db.session.scalar(live) is None:
        found = storage().archives(current.settings().app_name)
        report.orphans = [filename for filename in found if filename not in known]


def _summary(report: CleanupReport) -> dict[str, object]:
    values = asdict(report)
    for name in ("deleted", "in_use", "orphans"):
        values[f"{name}_count"] = len(values[name])
        values[name] = values[name][:NAMES_RECORDED]
    return values
