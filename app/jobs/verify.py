"""Read one archive back."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import structlog
from flask import current_app

from app import engine, ledger, locks
from app.config import Settings
from app.errors import DomainError, NotFound
from app.jobs.heartbeat import Heartbeat
from app.jobs.log_ids import in_logs
from app.models import utcnow
from app.services import backups, restore_engine

logger = structlog.get_logger(__name__)


@in_logs("backup_id")
def run(backup_id: str) -> None:
    """Given a completed backup's id, compare its archive with its manifest and its row, and write what was found."""
    row_id = UUID(backup_id)
    with locks.holding(locks.archive_name(row_id), shared=True) as lock:
        if lock is None:
            return
        try:
            problem = _problem(row_id)
            read_at = None if problem else utcnow()
            restore_test: dict[str, Any] = {}
            if problem is None and backups.get(row_id).verify_restoring:
                problem, restore_test = _restore_test(row_id)
        except (ledger.Lost, NotFound):
            return
        if problem:
            logger.error("archive does not verify", problem=problem)
        ledger.verified(row_id, read_at, problem, **restore_test)


def _restore_test(row_id: UUID) -> tuple[str | None, dict[str, Any]]:
    """Load the archive into a scratch database. Return what is wrong with it, or None, and the row's columns."""
    archive = backups.archive_file(row_id)
    heartbeat = Heartbeat(lambda phase, done, total: ledger.verifying(row_id, f"test_{phase}", done, total))
    key = restore_engine.settings().signing_key
    try:
        report = engine.verify_by_restoring(archive.path, restore_engine.target(), key, row_id, heartbeat)
    except engine.EngineError as error:
        # The server did not let us try: that says nothing about the archive.
        return restore_engine.settings().redact(str(error)), {}
    if not report.ok:
        return "The archive does not restore: " + "; ".join(report.problems), {"restore_tested_at": None}
    return None, {"restore_tested_at": utcnow(), "restore_test_seconds": report.seconds}


def _problem(row_id: UUID) -> str | None:
    """Return what is wrong with the archive as a sentence, or None."""
    settings: Settings = current_app.config["SETTINGS"]
    try:
        archive = backups.archive_file(row_id)
    except DomainError as error:
        return error.detail
    heartbeat = Heartbeat(lambda _phase, done, total: ledger.verifying(row_id, "verify", done, total))
    report = engine.verify_archive(archive.path, settings.signing_key, heartbeat)
    if not report.ok:
        return "The archive is damaged: " + "; ".join(report.problems)
    if report.sha256 != archive.sha256:
        return "The archive is whole, but it is not the file that this backup made: its SHA-256 differs."
    return None
