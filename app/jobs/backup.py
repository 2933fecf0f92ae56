"""Make one queued backup."""

from __future__ import annotations

from uuid import UUID

import psycopg

from app import current
from app.engine.errors import EngineError
from app.jobs import aftermath
from app.jobs.log_ids import in_logs
from app.runs import ledger, locks
from app.services.backups import backup_run
from app.services.recovery import backup_recovery, restore_recovery

UNSETTLED = "A restore was interrupted and could not be finished or undone yet, so nothing consistent can be saved: "


@in_logs("backup_id")
def run(backup_id: str) -> None:
    """Make a queued backup and close its row. Do nothing if it is no longer queued, or has to wait.

    Raise unexpected errors after the row is closed.
    """
    row_id = UUID(backup_id)
    with locks.holding(locks.run_name(row_id)) as alive:
        if alive is None:
            return
        try:
            restore_recovery.settle_before_reading()
        except (EngineError, psycopg.Error, OSError) as error:
            ledger.backups.fail_queued(row_id, current.settings().redact(f"{UNSETTLED}{error}"))
            aftermath.of_backup(row_id)
            return
        with backup_run.turn(row_id) as held:
            if not held:
                return
            backup_run.claim_and_make(row_id, [alive, *held])
    aftermath.of_backup(row_id)
    backup_recovery.enqueue_waiting()
