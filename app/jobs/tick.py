"""The periodic ticks: each step for itself, so that one that fails does not keep the others from their work."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping

import structlog

from app.extensions import db
from app.jobs.log_ids import in_logs
from app.runs import queue
from app.services.audit import audit_chain
from app.services.backups import archive_sweep
from app.services.notifications import notices, outbox
from app.services.recovery import backup_recovery, restore_recovery
from app.services.retention import cleanup, timeline
from app.services.schedules import last_ticks, schedules

logger = structlog.get_logger(__name__)

STEPS: Mapping[str, tuple[Callable[[], object], ...]] = {
    last_ticks.CHECK: (
        lambda: backup_recovery.reconcile(),
        lambda: restore_recovery.reconcile(),
        lambda: archive_sweep.sweep(),
        lambda: schedules.due(),
        lambda: cleanup.daily_if_missed(),
        lambda: notices.announce(),
        lambda: outbox.enqueue_due(),
        lambda: timeline.timeline(),
        lambda: audit_chain.seal(),
    ),
    last_ticks.CLEANUP: (lambda: cleanup.daily(),),
}


class TickFailed(Exception):
    """Steps of a tick failed; the next tick tries them again."""


@in_logs("tick")
def run(name: str) -> None:
    """Do what is due at a tick. Ticks that accumulated while no worker ran count as one.

    Raise TickFailed with the failures, after all steps.
    """
    queue.drop_repeats(queue.TICKS, queue.tick_id(name))
    if name == last_ticks.CHECK:
        last_ticks.ran(name)
    failures = []
    for step in STEPS[name]:
        try:
            step()
        except Exception as error:
            logger.exception("a step of the tick failed")
            failures.append("".join(traceback.format_exception_only(error)).strip())
        finally:
            db.session.rollback()
    if failures:
        raise TickFailed("; ".join(failures))
