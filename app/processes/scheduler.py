"""`flask scheduler`: rq-scheduler's entries as data. They are only ticks; the database decides what is due."""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import uuid4

import structlog
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job
from rq_scheduler import Scheduler

from app.config import Settings
from app.runs import queue
from app.services.installation.settings_watch import EXIT_SETTINGS_CHANGED, Watch
from app.services.schedules import last_ticks

logger = structlog.get_logger(__name__)

POLL_SECONDS = 5


@dataclass(frozen=True)
class Entry:
    """A periodic job: its name, when it is due (cron, UTC), and the function that is called with its name."""

    name: str
    cron: str
    path: str

    @property
    def id(self) -> str:
        """The entry's id in Redis."""
        return queue.tick_id(self.name)


ENTRIES = (
    Entry(last_ticks.CHECK, "* * * * *", queue.TICK_JOB),
    Entry(last_ticks.CLEANUP, "0 4 * * *", queue.TICK_JOB),
)


class TickScheduler(Scheduler):  # type: ignore[misc]
    """An rq-scheduler that reconciles its own entries at every poll, so that they survive a flushed Redis, a crash at the
    wrong moment and a changed version. Its first tick does not wait for the next full minute. Entries that are not ours,
    and a queue class that an entry names, are left alone."""

    job_class = queue.QueuedJob
    watch: Watch
    _ticked = False

    def get_queue_for_job(self, job: Job) -> Queue:  # noqa: ARG002 - rq_scheduler's signature
        """Return the queue of the ticks."""
        return queue.named(queue.TICKS, self.connection)

    def get_jobs_to_queue(self, with_times: bool = False) -> list[Job]:  # noqa: ARG002 - rq_scheduler's signature
        """Return our entries that are due."""
        ours = {entry.id for entry in ENTRIES}
        due = self.connection.zrangebyscore(self.scheduled_jobs_key, 0, int(time.time()))
        return [queue.QueuedJob.fetch(name, self.connection) for name in map(bytes.decode, due) if name in ours]

    def heartbeat(self) -> None:
        """Renew the heartbeat, and exit if a setting's file changed: the restarted process reads the new settings."""
        if self.watch.changed():
            raise SystemExit(EXIT_SETTINGS_CHANGED)
        super().heartbeat()
        self.watch.report(self.connection)

    def register_death(self) -> None:
        """Report that this process ends."""
        self.watch.withdraw(self.connection)
        super().register_death()

    def enqueue_jobs(self) -> Iterable[Job]:
        """Reconcile the entries, then enqueue those that are due and, the first time, the check."""
        reconcile_entries(self)
        if not self._ticked:
            self.enqueue_job(queue.QueuedJob.fetch(queue.tick_id(last_ticks.CHECK), connection=self.connection))
            self._ticked = True
        due: Iterable[Job] = super().enqueue_jobs()
        return due


def reconcile_entries(scheduler: Scheduler, entries: Iterable[Entry] = ENTRIES) -> None:
    """Add entries that are missing or differ, and remove obsolete ones of ours.

    A correct entry is left alone: registering it again would drop an overdue tick.
    """
    wanted = {entry.id: entry for entry in entries}
    for job_id in _registered(scheduler):
        if job_id.startswith(queue.tick_id("")) and job_id not in wanted:
            scheduler.cancel(job_id)
    for entry in wanted.values():
        if entry.id not in scheduler or not _is_right(scheduler.connection, entry):
            logger.info("periodic entry registered", name=entry.name, cron=entry.cron)
            scheduler.cron(
                entry.cron, entry.path, args=[entry.name], id=entry.id, queue_name=queue.TICKS, timeout=queue.NO_TIMEOUT
            )


def run(settings: Settings) -> None:
    """Schedule until asked to stop, waiting for Redis whenever it is down.

    Raise SystemExit with EXIT_SETTINGS_CHANGED if a setting's file changed.
    """
    # rq-scheduler evaluates cron in the process's time zone; in UTC, its library's warning does not apply.
    os.environ["TZ"] = "UTC"
    time.tzset()
    warnings.filterwarnings("ignore", category=FutureWarning, module="rq_scheduler")
    redis = Redis.from_url(settings.redis_url, socket_connect_timeout=3, socket_timeout=10)
    watch = Watch("scheduler", settings)
    while True:
        try:
            scheduler = TickScheduler(queue_name=queue.TICKS, connection=redis, interval=POLL_SECONDS, name=scheduler_name())
            scheduler.watch = watch
            scheduler.run()
        except RedisError as error:
            logger.error("Redis can't be reached; retrying", error=str(error))
            if watch.changed():
                raise SystemExit(EXIT_SETTINGS_CHANGED) from None
            time.sleep(POLL_SECONDS)


def scheduler_name() -> str:
    """Return a unique name for this process that includes its host."""
    return f"{socket.gethostname()}.{uuid4().hex}"


def _registered(scheduler: Scheduler) -> list[str]:
    return [raw.decode() for raw in scheduler.connection.zrange(scheduler.scheduled_jobs_key, 0, -1)]


def _is_right(redis: Redis, entry: Entry) -> bool:
    try:
        job = queue.QueuedJob.fetch(entry.id, connection=redis)
        return bool(
            job.meta.get("cron_string") == entry.cron
            and job.func_name == entry.path
            and list(job.args) == [entry.name]
            and job.origin == queue.TICKS
        )
    except (NoSuchJobError, DeserializationError):
        return False
