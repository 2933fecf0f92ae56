"""Make one queued restore."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import structlog

from app import logs
from app.config import ConfigError
from app.engine.errors import EngineError
from app.errors import DomainError
from app.jobs import aftermath
from app.jobs.log_ids import in_logs
from app.runs import ledger, locks, queue
from app.services.recovery import backup_recovery
from app.services.restores import restores
from app.services.restores.restore_run import NotBegun, RestoreRun
from app.services.restores.safety_backup import NotMade

logger = structlog.get_logger(__name__)

EXPECTED = (EngineError, ConfigError, DomainError, locks.LockLost, NotBegun, NotMade)


@in_logs("restore_id")
def run(restore_id: str) -> None:
    """Make a queued restore and close its row. Do nothing if it is no longer queued, or has to wait.

    Raise unexpected errors after the row is closed.
    """
    row_id = UUID(restore_id)
    with locks.holding(locks.restore_name(row_id)) as alive:
        if alive is None:
            return
        source = locks.acquire(locks.SOURCE, patience=locks.BRIEFLY)
        # Tried again, since it may have been released before our row said that it waits.
        if source is None and ledger.restores.wait_in_line(row_id):
            source = locks.acquire(locks.SOURCE)
        if source is None:
            return
        try:
            _claim_and_restore(row_id, [alive, source])
        finally:
            source.release()
    backup_recovery.enqueue_waiting()


def _claim_and_restore(row_id: UUID, held: Sequence[locks.Lock]) -> None:
    attempt = ledger.restores.claim(row_id, queue.current_worker())
    if attempt is None:
        return
    with logs.bound(attempt=attempt):
        _restore(RestoreRun(restores.get(row_id), attempt, held))


def _restore(run: RestoreRun) -> None:
    try:
        can_be_undone = run.restore()
    except ledger.Cancelled:
        ledger.restores.cancel_running(run.id, run.attempt)
        logger.info("restore cancelled")
    except ledger.Lost as error:
        logger.error("restore abandoned", reason=str(error))
    except EXPECTED as error:
        run.fail(str(error))
    except Exception as error:
        run.fail(ledger.unexpected(error))
        raise
    else:
        aftermath.of_restore(run.id, can_be_undone)
