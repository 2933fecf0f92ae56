"""`flask worker` and `flask scheduler`."""

from __future__ import annotations

import sys

import click

from app import current
from app.cli.common import application, checked
from app.processes import scheduler as scheduling
from app.processes import worker as working
from app.runs import queue


@click.command()
@click.option("--queue", "queues", multiple=True, type=click.Choice(queue.QUEUES), help="Serve this queue; repeatable.")
@click.option("--burst", is_flag=True, help="End when the queues are empty.")
@checked
def worker(queues: tuple[str, ...], burst: bool) -> None:
    """Run backups, restores and checks. Without --queue: one process per queue, so that short jobs
    never wait for a long backup."""
    working.follow_parent()
    if queues or burst:
        working.serve(application(), queues or queue.QUEUES, burst)
    else:
        sys.exit(working.supervise(queue.QUEUES))


@click.command()
@checked
def scheduler() -> None:
    """Enqueue the ticks: every minute a job that repairs lost runs and starts what is due, at 04:00 UTC one that deletes old
    backups."""
    scheduling.run(current.settings())
