"""The overview: problems that need attention, unfinished setup steps, and the key figures."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import DateTime, cast, func, select

from app import current
from app.extensions import db
from app.models import ApiToken, AuditEntry, BackupHistory, BackupSchedule, Restore, utcnow
from app.services import settings_row
from app.services.installation.storage import storage
from app.services.monitoring import health
from app.services.people import tokens

# A proof older than this says little about today's backups.
PROOF_LASTS = timedelta(days=90)
# Without a schedule, a last backup older than this is reported.
FORGOTTEN_AFTER = timedelta(days=7)
RECENTLY = timedelta(days=7)
Row = BackupHistory


@dataclass(frozen=True)
class Problem:
    """A problem that needs attention. `serious`: backups or restores may not work. `backup_id`: the backup concerned."""

    name: str
    text: str
    serious: bool
    backup_id: UUID | None = None


@dataclass(frozen=True)
class Step:
    """A setup step, and whether it is done."""

    name: str
    done: bool


@dataclass(frozen=True)
class NextRun:
    """The time of the next scheduled backup, and the names of the schedules that are due then."""

    at: datetime
    names: list[str]


@dataclass(frozen=True)
class Proof:
    """When a backup was last actually restored, as a test or for real."""

    at: datetime
    backup_id: UUID | None
    as_test: bool


@dataclass(frozen=True)
class Disk:
    """The disk that the archives are on, in bytes. None: it can't be read."""

    total: int
    free: int
    backups: int

    @property
    def other(self) -> int:
        """The bytes used by other data."""
        return max(0, self.total - self.free - self.backups)


@dataclass(frozen=True)
class Standing:
    """The current state. Without `last_good` there is nothing to restore from."""

    last_good: BackupHistory | None
    next_run: NextRun | None
    proof: Proof | None
    disk: Disk | None
    problems: list[Problem]
    steps: list[Step]

    @property
    def fine(self) -> bool:
        """Whether nothing needs attention."""
        return not self.problems and all(step.done for step in self.steps)


def standing(now: datetime | None = None) -> Standing:
    """Return the current state. Raise what the database raises if it is unreachable."""
    now = now or utcnow()
    last_good, next_run, proof = newest_good(), _next_run(), _proof()
    steps = [
        Step("backup", last_good is not None),
        Step("schedule", next_run is not None),
        Step("recipients", _somebody_is_notified()),
        Step("sheet", _sheet_downloaded()),
        Step("restore_test", proof is not None),
    ]
    problems = [
        Problem(check.name, check.detail, check.name != "notifications") for check in health.checks() if not check.ok
    ]
    problems += _of_the_last_backup(last_good, next_run, problems, now)
    problems += _of_failures(problems, now) + _of_restores(now)
    problems += [Problem("tokens", token_words(row), False) for row in tokens.ending()]
    if proof is not None and now - proof.at > PROOF_LASTS:
        days = (now - proof.at).days
        text = f"No backup has been restored as a test for {days} days. Only a restore proves that a backup works."
        problems.append(Problem("restore_test", text, False, last_good.id if last_good else None))
    return Standing(last_good, next_run, proof, _disk(), sorted(problems, key=lambda problem: not problem.serious), steps)


def token_words(row: ApiToken) -> str:
    """Return the warning for a token in use that expires soon."""
    verb = "ends" if tokens.works(row) else "ended"
    return f"The API token “{row.name}” {verb} on {row.expires_at:%d %B %Y}, and a program uses it. Create a new one for it."


def newest_good() -> BackupHistory | None:
    """Return the newest completed backup that was made here, or None."""
    done = select(Row).where(Row.status == "completed", Row.kind != "uploaded", Row.damaged.is_(None))
    return db.session.scalar(done.order_by(Row.created_at.desc(), Row.id.desc()).limit(1))


def _of_the_last_backup(
    last_good: BackupHistory | None, next_run: NextRun | None, known: list[Problem], now: datetime
) -> list[Problem]:
    if last_good is None:
        return []
    found = []
    if last_good.warnings:
        number = len(last_good.warnings)
        words = "a warning" if number == 1 else f"{number} warnings"
        found.append(Problem("warnings", f"The last good backup completed with {words}.", False, last_good.id))
    overdue = any(problem.name == "schedules" for problem in known)
    age = now - last_good.created_at
    if next_run is None and not overdue and age > FORGOTTEN_AFTER:
        text = f"The last good backup is {age.days} days old, and no schedule makes the next one."
        found.append(Problem("old", text, True))
    return found


def _of_failures(known: list[Problem], now: datetime) -> list[Problem]:
    """Report recent failures, unless the last backup itself failed, which is reported already."""
    if any(problem.name == "last_backup" for problem in known):
        return []
    # A refused upload is not a failed backup.
    failed = select(func.count()).where(Row.status == "failed", Row.kind != "uploaded", Row.created_at > now - RECENTLY)
    number = db.session.scalar(failed)
    if not number:
        return []
    words = "1 backup has" if number == 1 else f"{number} backups have"
    return [Problem("failures", f"{words} failed in the last seven days; later ones completed.", False)]


def _of_restores(now: datetime) -> list[Problem]:
    last = db.session.scalar(select(Restore).order_by(Restore.created_at.desc(), Restore.id.desc()).limit(1))
    if last is None or last.status != "failed" or last.created_at < now - RECENTLY:
        return []
    return [Problem("restore", "The last restore failed; the live state is unchanged. Its page says why.", True)]


def _next_run() -> NextRun | None:
    chosen = select(BackupSchedule.name, BackupSchedule.next_run_at).where(
        BackupSchedule.enabled, BackupSchedule.deleted_at.is_(None), BackupSchedule.next_run_at.is_not(None)
    )
    runs = db.session.execute(chosen.order_by(BackupSchedule.next_run_at, BackupSchedule.name)).all()
    if not runs:
        return None
    first = runs[0].next_run_at
    return NextRun(first, [run.name for run in runs if run.next_run_at == first])


def _proof() -> Proof | None:
    """Return the newest proof. The tested backup may have been deleted since; the audit log still records the test."""
    tested = select(Row.restore_tested_at, Row.id).where(Row.restore_tested_at.is_not(None))
    restored = select(Restore.finished_at, Restore.backup_id).where(Restore.status == "completed")
    moment = cast(AuditEntry.detail["restore_tested_at"].astext, DateTime(timezone=True))
    gone = select(func.max(moment)).where(AuditEntry.action == "backup.deleted")
    found = []
    for chosen, column, as_test in ((tested, Row.restore_tested_at, True), (restored, Restore.finished_at, False)):
        newest = db.session.execute(chosen.order_by(column.desc()).limit(1)).first()
        if newest is not None and newest[0] is not None:
            found.append(Proof(newest[0], newest[1], as_test))
    deleted = db.session.scalar(gone)
    if deleted is not None:
        found.append(Proof(deleted, None, True))
    return max(found, key=lambda proof: proof.at, default=None)


def _somebody_is_notified() -> bool:
    row, environment = settings_row.row(), current.settings()
    return bool(row.channels_sealed or (row.recipients and environment.smtp_url))


def _sheet_downloaded() -> bool:
    given = select(AuditEntry.id).where(AuditEntry.action == "recovery_sheet.downloaded").limit(1)
    return db.session.scalar(given) is not None


def _disk() -> Disk | None:
    stored = db.session.scalar(select(func.sum(Row.size_bytes)).where(Row.status == "completed")) or 0
    try:
        return Disk(storage().total_space(), storage().free_space(), int(stored))
    except OSError:
        return None
