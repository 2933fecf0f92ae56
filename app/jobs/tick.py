"""The minute tick."""

from __future__ import annotations

from app import queue
from app.services import backups, restores, ticks


def run(name: str) -> None:
    """Given the tick's name, do what is due. Several ticks that piled up while no worker ran count as one."""
    queue.drop_repeats(queue.TICKS, queue.tick_id(name))
    ticks.ran(name)
    backups.reconcile()
    restores.reconcile()
