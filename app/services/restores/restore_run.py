"""One attempt at a restore: the safety backup first, then the engine, then the row."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any
from uuid import UUID

import psycopg
import structlog
from sqlalchemy.exc import OperationalError

from app import current
from app.engine.errors import EngineError
from app.engine.restore import restore as restoring
from app.engine.restore.restore import RestoreResult
from app.engine.storage.interface import parts_of
from app.extensions import db
from app.models import Restore
from app.runs import ledger, locks, restore_steps, retry
from app.runs.heartbeat import Heartbeat
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.backups import backups
from app.services.installation import restore_engine
from app.services.installation.source import source_problem
from app.services.installation.storage import storage
from app.services.recovery import restore_recovery
from app.services.restores import restore_result, restores, safety_backup

logger = structlog.get_logger(__name__)

READ_BYTES = 4 * 1024 * 1024
JOB = Actor.system("restore job")


class NotBegun(Exception):
    """A restore can't begin, because something it needs is missing. str() is the sentence for its row."""


class RestoreRun:
    """One attempt, under locks that the caller holds until `restore` or `fail` has returned.

    Once `swapping` is set, nothing that happens here may stop the engine, and only its journal knows how the swap ended.
    """

    def __init__(self, row: Restore, attempt: int, held: Sequence[locks.Lock]) -> None:
        self.id, self.attempt, self.held = row.id, attempt, held
        self.backup_id, self.scope, self.with_safety = row.backup_id, row.scope, row.safety_backup
        self.settings = current.settings()
        self.heartbeat = Heartbeat(self._write)
        self.swapping = False

    def restore(self) -> bool:
        """Replace the live state with the backup's, and complete the row. Return whether that can be undone.

        Raise EngineError, ConfigError, DomainError, LockLost, NotBegun, safety_backup.NotMade, or ledger.Cancelled or Lost.
        """
        logger.info("restore begins", scope=self.scope, backup=str(self.backup_id))
        source_problem(self.settings)
        # A swap that was interrupted earlier is settled before anything is built on it.
        restore_recovery.settle()
        backup = backups.get(self.backup_id) if self.backup_id else None
        if backup is None:
            raise NotBegun("The backup to restore was deleted meanwhile. Nothing was changed.")
        with locks.holding(locks.archive_name(backup.id), shared=True) as reading:
            archive = backups.archive_file(backup.id)
            if reading is None:
                raise NotBegun(f"{archive.filename} is being deleted just now. Nothing was changed.")
            if backup.trusted_at is not None:
                self._check_trusted(archive)
            counted = None
            if self.with_safety:
                counted = safety_backup.make(self.id, self.attempt, self.held, JOB.name, archive.filename)
            began = time.monotonic()
            request = restore_engine.request(backups.get(backup.id), archive.path, self.scope, self.id)
            # No transaction stays open for as long as a restore takes.
            db.session.remove()
            result = restoring.restore(request, self.heartbeat.beat, before_swap=self._fence)
            seconds = time.monotonic() - began
            figures = restore_result.as_json(result, counted)
            self._complete(result, figures | {"restore_seconds": seconds, "archive_bytes": archive.size_bytes})
        logger.info("restore completed", seconds=round(seconds, 1))
        return result.undo_possible

    def fail(self, reason: str) -> None:
        """Close the row as failed for this reason, or as the journal says if the swap had begun.

        If the database server can't be reached, the journal can't be followed yet. The row then stays open, and the tick
        tries again.
        """
        # The error may have left the session unusable.
        db.session.rollback()
        reason = self.settings.redact(reason)
        logger.error("restore failed", reason=reason)
        if self.swapping:
            try:
                restore_recovery.settle(frozenset([self.id]), reason)
            except (EngineError, psycopg.Error, OSError) as error:
                logger.error("the swap could not be settled yet", reason=self.settings.redact(str(error)))
        else:
            ledger.restores.fail(self.id, self.attempt, reason)
        completed = restores.get(self.id).status == "completed"
        note(self.id, "restore.completed" if completed else "restore.failed")

    def _write(self, phase: str, bytes_done: int, bytes_total: int | None) -> None:
        try:
            ledger.restores.progress(self.id, self.attempt, phase, bytes_done, bytes_total)
        except (ledger.Lost, ledger.Cancelled, OperationalError):
            if not self.swapping:
                raise
            logger.exception("progress not written during the swap")

    def _fence(self) -> None:
        retry.while_database_restarts(self._begin_swap)
        self.swapping = True

    def _begin_swap(self) -> None:
        for lock in self.held:
            lock.ensure()
        restore_steps.begin_swap(self.id, self.attempt)

    def _complete(self, result: RestoreResult, figures: dict[str, Any]) -> None:
        columns = {
            "result": figures,
            "warnings": [self.settings.redact(text) for text in result.warnings],
            "finished_at": result.finished_at,
            "undo_until": restore_recovery.undo_until() if result.undo_possible else None,
        }
        if not retry.while_database_restarts(lambda: ledger.restores.complete(self.id, self.attempt, **columns)):
            logger.error("the restore's row was closed while its swap was made")
            restore_recovery.settle()

    def _check_trusted(self, archive: backups.ArchiveFile) -> None:
        name, digest, done = archive.filename, hashlib.sha256(), 0
        with closing(storage().open(name)) as blob:
            for part in parts_of(blob, READ_BYTES):
                digest.update(part)
                done += len(part)
                self.heartbeat.beat("check", done, blob.size)
        if digest.hexdigest() != archive.sha256:
            raise NotBegun(f"{name} is not the file that an admin trusted: its SHA-256 differs. Nothing was changed.")


def note(restore_id: UUID, action: str) -> None:
    """Add an entry about a restore to the audit log."""
    audit.record(JOB, action, "restore", restore_id)
    db.session.commit()
