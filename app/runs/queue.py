"""Names of the queues, and how a job gets into one. A job is a dotted path and an id, nothing more.

What lies in Redis is not trusted: whoever can write there must not be able to run anything else. Jobs are JSON, never
pickle, and a job is executed only if it is one of JOBS with an id as its only argument. What rq would do besides, callbacks
and webhooks that the job names, is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from flask import current_app
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

# Long work, one at a time; short work that must not wait behind it; and checks of uploads, which neither hold up a backup
# that is due nor wait for one.
BACKUPS = "backups"
TICKS = "ticks"
CHECKS = "checks"
QUEUES = (BACKUPS, TICKS, CHECKS)

# The jobs, as dotted paths: nothing on this side of the queue imports them.
BACKUP_JOB = "app.jobs.backup.run"
RESTORE_JOB = "app.jobs.restore.run"
VERIFY_JOB = "app.jobs.verify.run"
CHECK_JOB = "app.jobs.check.run"
TICK_JOB = "app.jobs.tick.run"
NOTIFY_JOB = "app.jobs.notify.run"
JOBS = frozenset({BACKUP_JOB, RESTORE_JOB, VERIFY_JOB, CHECK_JOB, TICK_JOB, NOTIFY_JOB})
# A UUID, or the name of a tick.
ARGUMENT = re.compile(r"[A-Za-z0-9_-]{1,64}")

NO_TIMEOUT = -1
KEEP_RESULT_SECONDS = 3600
KEEP_FAILURE_SECONDS = 7 * 24 * 3600
# A worker renews its heartbeat, and that of its job, every 15 seconds: four missed ones, and it counts as gone.
HEARTBEAT_GRACE = timedelta(seconds=60)


class QueueUnavailable(Exception):
    """Redis can't be reached."""


class QueuedJob(Job):
    """A job as it lies in Redis. Whatever is not one of ours raises DeserializationError when it is looked into.

    Checked against rq 3.0.0: _deserialize_data, the three callbacks, restore.
    """

    success_callback = failure_callback = stopped_callback = None  # type: ignore[assignment]

    def __init__(self, id: str | None = None, connection: Redis | None = None, serializer: Any = None) -> None:
        super().__init__(id, connection, JSONSerializer)

    def restore(self, raw_data: Any) -> Any:
        """Take over what Redis holds, without what it could make us call."""
        found = super().restore(raw_data)
        self.webhooks = []
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        return found

    def _deserialize_data(self) -> None:
        super()._deserialize_data()
        path, arguments = self._func_name, self._args
        is_ours = isinstance(path, str) and path in JOBS and not self._instance and not self._kwargs
        is_id = isinstance(arguments, list) and len(arguments) == 1 and isinstance(arguments[0], str)
        if not is_ours or not is_id or not ARGUMENT.fullmatch(arguments[0]):
            self._func_name, self._instance, self._args, self._kwargs = None, None, [], {}
            raise DeserializationError("This is no job of ours.")


def line(name: str, redis: Redis | None = None) -> Queue:
    """Return a queue, whose jobs are JSON."""
    return Queue(name, connection=redis or connection(), job_class=QueuedJob, serializer=JSONSerializer)


@dataclass(frozen=True)
class WorkerSummary:
    """A worker that is alive: its name and the queues that it serves."""

    name: str
    queues: tuple[str, ...]


def connection() -> Redis:
    """Return the app's Redis client."""
    return cast(Redis, current_app.extensions["redis"])


def enqueue(queue_name: str, path: str, subject_id: object, job_id: str, first: bool = False) -> None:
    """Given a queue, a function's dotted path and the id that it works on, put the job there; `first`: before all others.

    Raise QueueUnavailable. The job id must not hold ':'.
    """
    try:
        line(queue_name).enqueue_call(
            func=path,
            args=(str(subject_id),),
            job_id=job_id,
            timeout=NO_TIMEOUT,
            result_ttl=KEEP_RESULT_SECONDS,
            failure_ttl=KEEP_FAILURE_SECONDS,
            at_front=first,
        )
    except RedisError as error:
        raise QueueUnavailable("The queue (REDIS_URL) can't be reached. Check that Redis or Valkey is running.") from error


def tick_id(name: str) -> str:
    """Given a periodic job's name, return the id of its entry."""
    return f"tick-{name}"


def knows(queue_name: str, job_id: str) -> bool:
    """Given a job, return whether it is in line on that queue, or running on a worker that is alive."""
    redis = connection()
    try:
        job = QueuedJob.fetch(job_id, connection=redis)
    except NoSuchJobError:
        return False
    if job.get_status() == JobStatus.STARTED and job.last_heartbeat:
        beat = job.last_heartbeat
        return datetime.now(UTC) - (beat if beat.tzinfo else beat.replace(tzinfo=UTC)) < HEARTBEAT_GRACE
    return line(queue_name).get_job_position(job_id) is not None


def forget(queue_name: str, job_id: str) -> None:
    """Given a job that need not run any more, take it out of line. Silent where Redis can't be reached: a job whose
    row is closed does nothing."""
    try:
        line(queue_name).remove(job_id)
    except RedisError:
        return


def drop_repeats(queue_name: str, job_id: str) -> None:
    """Given a periodic job, take all its entries out of line: those that piled up while no worker ran."""
    queue = line(queue_name)
    connection().lrem(queue.key, 0, job_id)


def workers() -> list[WorkerSummary]:
    """Return the workers that are alive. Raise redis.RedisError."""
    alive = []
    for worker in Worker.all(connection=connection()):
        beat = worker.last_heartbeat
        if beat is None or datetime.now(UTC) - (beat if beat.tzinfo else beat.replace(tzinfo=UTC)) < HEARTBEAT_GRACE:
            alive.append(WorkerSummary(worker.name, tuple(worker.queue_names())))
    return alive


def length(queue_name: str) -> int:
    """Given a queue, return how many jobs wait in it. Raise redis.RedisError."""
    return line(queue_name).count


def has_worker(queue_name: str) -> bool:
    """Given a queue, return whether a worker that is alive serves it. Raise redis.RedisError."""
    return any(queue_name in worker.queues for worker in workers())
