"""One container in simulated time: a tick for every new minute that the clock file names, and a worker beside it.

`python -m tests.support.container CLOCK_FILE`, with the app's environment. Everything is real but the archive: a backup is
claimed, fenced and closed as ever, and its file is empty.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError
from rq import SimpleWorker
from rq.serializers import JSONSerializer
from rq.timeouts import TimerDeathPenalty

from app import create_app
from app.extensions import db
from app.jobs import aftermath
from app.models import utcnow
from app.runs import ledger, queue
from app.services.backups import backup_run
from app.services.recovery import backup_recovery, restore_recovery
from app.services.schedules import due_slots, schedules
from tests.support.scheduling import stand_in

IDLE_SECONDS = 0.02


class Clock:
    """The simulated time, as the conductor wrote it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def now(self) -> datetime:
        """Return the simulated moment."""
        while True:
            try:
                return datetime.fromisoformat(self._path.read_text())
            except ValueError:
                time.sleep(0.001)


def main() -> None:
    warnings.filterwarnings("ignore")
    clock = Clock(Path(sys.argv[1]))
    backup_recovery.SILENT = timedelta(seconds=1)
    backup_recovery.IN_TRANSIT = timedelta(seconds=1)

    def make(row_id: UUID, held: Sequence[Any], watch: object = None) -> None:
        for lock in held:
            lock.ensure()
        stand_in(row_id, clock.now())

    vars(backup_run)["claim_and_make"] = make
    vars(restore_recovery)["settle_before_reading"] = lambda: None  # no server is there to ask
    aftermath.of_backup = lambda row_id: due_slots.settle(clock.now())  # type: ignore[assignment]
    app = create_app()
    with app.app_context():
        worker = SimpleWorker(
            [queue.named(queue.BACKUPS)],
            connection=queue.connection(),
            job_class=queue.QueuedJob,
            serializer=JSONSerializer,
        )
        worker.death_penalty_class = TimerDeathPenalty
        ticked, recovered = None, utcnow()
        while True:
            now = clock.now()
            try:
                if now != ticked:
                    schedules.due(now)
                    ticked = now
                if utcnow() - recovered > timedelta(seconds=1):
                    backup_recovery.reconcile()
                    recovered = utcnow()
                worker.work(burst=True, logging_level="ERROR", max_jobs=1)
            except (RedisError, ledger.Lost):
                time.sleep(0.1)
            finally:
                db.session.rollback()
            time.sleep(IDLE_SECONDS)


if __name__ == "__main__":
    main()
