"""Read one archive back."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

import structlog
from sqlalchemy.exc import OperationalError

from app import current
from app.engine.errors import EngineError
from app.engine.proof.restore_test import RestoreTest, verify_by_restoring
from app.engine.verify.verify import verify_archive
from app.errors import Conflict, DomainError, NotFound
from app.extensions import db
from app.jobs import aftermath
from app.jobs.log_ids import in_logs
from app.models import utcnow
from app.runs import ledger, locks, verification_steps
from app.runs.heartbeat import Heartbeat
from app.services.backups import archive_sweep, backups
from app.services.history import archive_damage, retention_plan
from app.services.installation import restore_engine

logger = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Found:
    """What a verification found: `damage` is wrong with the archive itself, `trouble` with the test; columns of the row."""

    damage: str | None = None
    trouble: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)


@in_logs("backup_id")
def run(backup_id: str) -> None:
    """Compare a completed backup's archive with its manifest and its row, and write what was found. Does nothing where it
    is being verified by another worker."""
    row_id = UUID(backup_id)
    with (
        locks.holding(locks.verify_name(row_id)) as alone,
        locks.holding(locks.archive_name(row_id), shared=True) as lock,
    ):
        if alone is None or lock is None:
            return
        try:
            row = backups.get(row_id)
        except NotFound:
            return
        if row.verify_requested_at is None:
            return
        restoring, was_damaged, verified_at = row.verify_restoring, row.damaged is not None, row.verified_at
        try:
            found = _read_back(row_id, row.origin)
            read_at = None if found.damage else utcnow()
            if restoring and found.damage is None:
                found = _restore_test(row_id, found)
        except (ledger.Lost, NotFound):
            verification_steps.abandon(row_id)
            return
        except OperationalError:
            raise  # our own database is away: the tick asks again when it is back
        except DomainError as error:
            # The storage can't be accessed at the moment, which says nothing about the archive.
            verification_steps.finish(row_id, verified_at, current.settings().redact(error.detail))
            return
        except Exception as error:
            # Must not be tried again for ever, ahead of all other verifications.
            db.session.rollback()
            reason = current.settings().redact(ledger.unexpected(error))
            verification_steps.finish(row_id, verified_at, reason, **_seen(row_id))
            raise
        problem = found.damage or found.trouble
        if problem:
            logger.error("archive does not verify", problem=problem)
        if found.damage:
            archive_sweep.mark(row_id, found.damage)
            db.session.commit()
        verification_steps.finish(row_id, read_at, problem, damaged=found.damage, **found.columns)
    if found.damage or was_damaged:
        aftermath.guarded("categories", retention_plan.refresh)


def _seen(row_id: UUID) -> dict[str, Any]:
    """Return the column that keeps an archive from being read again before it changes."""
    with suppress(OSError):
        facts = archive_damage.look_at(backups.get(row_id).filename or "")
        return {"file_mtime_ns": facts.mtime_ns} if facts else {}
    return {}


def _restore_test(row_id: UUID, read: _Found) -> _Found:
    """Load the archive into a scratch database of its own."""
    archive = backups.archive_file(row_id, damaged=True)
    heartbeat = Heartbeat(lambda phase, done, total: verification_steps.progress(row_id, f"test_{phase}", done, total))
    key = current.settings().signing_key
    try:
        # An id of its own: two tests of the same archive must not share a scratch database.
        report = verify_by_restoring(RestoreTest(archive.path, restore_engine.target(), key, uuid4()), heartbeat.beat)
    except EngineError as error:
        # The server did not let us try: that says nothing about the archive.
        return replace(read, trouble=current.settings().redact(str(error)))
    if not report.ok:
        trouble = "The archive does not restore: " + "; ".join(report.problems)
        return replace(read, trouble=trouble, columns=read.columns | {"restore_tested_at": None})
    times = {"restore_tested_at": utcnow(), "restore_test_seconds": report.seconds}
    return replace(read, columns=read.columns | times)


def _read_back(row_id: UUID, origin: str) -> _Found:
    settings = current.settings()
    try:
        archive = backups.archive_file(row_id, damaged=True)
    except Conflict as error:
        return _Found(damage=error.detail)
    facts = archive_damage.look_at(archive.filename)
    # Of a damaged one too: it need not be read again until it changes.
    columns = {"file_mtime_ns": facts.mtime_ns if facts else None}
    heartbeat = Heartbeat(lambda _phase, done, total: verification_steps.progress(row_id, "verify", done, total))
    report = verify_archive(archive.path, settings.signing_key, heartbeat.beat)
    # An archive from elsewhere has no manifest: it was checked when it came in, so being the same file is all.
    if not report.ok and not (origin == "foreign" and report.sha256 == archive.sha256):
        return _Found(damage="The archive is damaged: " + "; ".join(report.problems), columns=columns)
    if report.sha256 != archive.sha256:
        damage = "The archive is whole, but it is not the file that this backup made: its SHA-256 differs."
        return _Found(damage=damage, columns=columns)
    return _Found(columns=columns)
