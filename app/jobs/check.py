"""Check one uploaded archive."""

from __future__ import annotations

from uuid import UUID

import structlog

from app import current, logs
from app.jobs import aftermath
from app.jobs.log_ids import in_logs
from app.runs import ledger, locks, queue, upload_steps
from app.runs.heartbeat import Heartbeat
from app.services.backups import backups, upload_check
from app.services.history import retention_plan

logger = structlog.get_logger(__name__)


@in_logs("backup_id")
def run(upload_id: str) -> None:
    """Check an upload that waits for it, and close its row.

    Do nothing while another check is in progress: it starts the next one when it ends. Raise unexpected errors after the row
    is closed.
    """
    row_id = UUID(upload_id)
    with locks.holding(locks.run_name(row_id)) as alive:
        turn = locks.acquire(locks.CHECKER, owner=row_id) if alive is not None else None
        if turn is None:
            return
        try:
            attempt = upload_steps.claim_check(row_id, queue.current_worker())
            if attempt is not None:
                with logs.bound(attempt=attempt):
                    _check(row_id, attempt)
        finally:
            turn.release()
    aftermath.guarded("categories", retention_plan.refresh)
    aftermath.guarded("next check", upload_check.enqueue_next)


def _check(row_id: UUID, attempt: int) -> None:
    heartbeat = Heartbeat(
        lambda _phase, done, total: ledger.backups.progress(row_id, attempt, upload_steps.PHASE, done, total)
    )
    try:
        logger.info("check begins")
        filename = upload_check.check(backups.get(row_id), attempt, heartbeat.beat)
        logger.info("upload taken in", filename=filename)
    except ledger.Cancelled:
        if ledger.backups.cancel_running(row_id, attempt):
            backups.remove_partials(row_id)
        logger.info("check cancelled")
    except ledger.Lost as error:
        logger.error("check abandoned", reason=str(error))
    except upload_check.Refused as error:
        logger.warning("upload refused", reason=str(error))
        upload_check.refuse(row_id, attempt, str(error))
    except Exception as error:
        upload_check.refuse(row_id, attempt, current.settings().redact(ledger.unexpected(error)))
        raise
