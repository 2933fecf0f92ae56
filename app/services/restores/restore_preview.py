"""Preview a restore: the engine's preview, plus blockers and estimates from our own history."""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select

from app import current
from app.engine.errors import EngineError
from app.engine.restore.preview import preview as previewing
from app.engine.restore.preview.findings import Preview
from app.engine.restore.request import RestoreRequest
from app.errors import Conflict, InvalidInput
from app.extensions import db
from app.models import BackupHistory, Restore
from app.models.restores import SCOPES
from app.runs import ledger
from app.services.backups import backups
from app.services.installation import restore_engine

# How long an exact preview may count rows and compare documents within a request; after that, the quick one is the answer.
EXACT_SECONDS = 20.0
# How long rows may be compared; the remaining tables are only counted.
COMPARE_SECONDS = 12.0
PAST_RUNS = 5
TOO_LONG = "Counting everything takes too long for a page: the figures marked ≈ are estimates."


@dataclass(frozen=True)
class RestorePreview:
    """`diff` is the engine's; `blockers` are all reasons why a restore would be refused now; `confirm` is the text to type.
    The seconds are estimates from earlier runs on this machine, or None if there were none."""

    backup: BackupHistory
    diff: Preview
    blockers: list[str]
    warnings: list[str]
    confirm: str
    restore_seconds: float | None
    safety_backup_seconds: float | None


class _TooLong(Exception):
    pass


def preview(backup_id: UUID, scope: str = "all", exact: bool = False) -> RestorePreview:
    """Return what restoring a completed backup in a scope of SCOPES would do. Change nothing.

    Not exact: within a second, from the manifest and the server's estimates. Exact: counted and compared, as far as
    EXACT_SECONDS and COMPARE_SECONDS allow; `diff.exact` says whether it was counted. Raise NotFound, InvalidInput, or
    Conflict if there is no archive to restore.
    """
    check_scope(scope)
    row = backups.get(backup_id)
    archive = backups.archive_file(backup_id)
    request = restore_engine.request(row, archive.path, scope)
    warnings: list[str] = []
    try:
        diff = _look(request, exact)
    except _TooLong:
        diff, warnings = _look(request, False), [TOO_LONG]
    except EngineError as error:
        raise Conflict(current.settings().redact(str(error)), id=str(backup_id)) from error
    redact = current.settings().redact
    return RestorePreview(
        backup=row,
        diff=diff,
        blockers=[redact(text) for text in diff.blockers] + busy(),
        warnings=warnings + [redact(text) for text in diff.warnings],
        confirm=restore_engine.database_name(),
        restore_seconds=_restore_seconds(scope, archive.size_bytes),
        safety_backup_seconds=_safety_backup_seconds(),
    )


def busy() -> list[str]:
    """Return sentences on running work that prevents a restore from starting."""
    found = []
    if ledger.restores.live() is not None:
        found.append("A restore is queued or running already. Wait until it has finished, or cancel it.")
    if running_backup() is not None:
        found.append("A backup is running. Wait until it has finished, or cancel it.")
    return found


def running_backup() -> BackupHistory | None:
    """Return the running backup, or None."""
    made_now = (BackupHistory.status == "in_progress", BackupHistory.kind != "uploaded")
    return db.session.scalar(select(BackupHistory).where(*made_now).limit(1))


def check_scope(scope: str) -> None:
    """Raise InvalidInput unless the scope is one of SCOPES."""
    if scope not in SCOPES:
        raise InvalidInput({"scope": f"Choose from {', '.join(SCOPES)}."})


def _look(request: RestoreRequest, exact: bool) -> Preview:
    began = time.monotonic()

    def stop_in_time(_phase: str, _done: int, _total: int | None) -> None:
        if time.monotonic() > began + EXACT_SECONDS:
            raise _TooLong

    found: Preview = previewing.preview(request, exact, stop_in_time if exact else None, began + COMPARE_SECONDS)
    return found


def _restore_seconds(scope: str, size_bytes: int) -> float | None:
    """Estimate the seconds of a restore from the speed of the latest ones of that scope."""
    past = select(Restore.result).where(Restore.status == "completed", Restore.scope == scope)
    results = db.session.scalars(past.order_by(Restore.created_at.desc()).limit(PAST_RUNS)).all()
    runs = [(result["archive_bytes"], result["restore_seconds"]) for result in results if result.get("restore_seconds")]
    total = sum(size for size, _ in runs)
    return size_bytes * sum(seconds for _, seconds in runs) / total if total else None


def _safety_backup_seconds() -> float | None:
    past = select(BackupHistory).where(BackupHistory.status == "completed", BackupHistory.kind != "uploaded")
    rows = db.session.scalars(past.order_by(BackupHistory.created_at.desc()).limit(PAST_RUNS)).all()
    taken = [(row.finished_at - row.started_at).total_seconds() for row in rows if row.finished_at and row.started_at]
    return sum(taken) / len(taken) if taken else None
