"""The queues, and the jobs that may be put into them. A job is a dotted path and an id, nothing more.

The contents of Redis are not trusted: whoever can write there must not be able to execute anything else. Jobs are JSON,
never pickle, and a job is executed only if it is one of JOBS with an id as its only argument. The callbacks and webhooks
that rq lets a job name are ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from flask import current_app
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker, get_current_job
from rq.exceptions import DeserializationError, NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

# Long work, one job at a time: backups, restores, verifications.
BACKUPS = "backups"
# Short work that must not wait behind it.
TICKS = "ticks"
# Checks of uploads, which must neither delay a backup nor wait for one.
CHECKS = "checks"
QUEUES = (BACKUPS, TICKS, CHECKS)

# Dotted paths, so that those who enqueue a job need not import it.
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
# A worker renews its heartbeat, and that of its job, every 15 seconds. After four missed ones it counts as gone.
HEARTBEAT_GRACE = timedelta(seconds=60)


class QueueUnavailable(Exception):
    """Redis can't be reached."""


class QueuedJob(Job):
    """A job as Redis has it. One that is not ours raises DeserializationError when its function or arguments are read.

    Checked against rq 3.0.0: _deserialize_data, the three callbacks, restore.
    """

    success_callback = failure_callback = stopped_callback = None

    def __init__(self, id: str | None = None, connection: Redis | None = None, serializer: Any = None) -> None:  # noqa: ARG002 - rq's
        super().__init__(id, connection, JSONSerializer)

    def restore(self, raw_data: Any) -> Any:
        """Read the job from Redis, without its callbacks and webhooks."""
        found = super().restore(raw_data)
        self.webhooks = []
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        return found

    def _deserialize_data(self) -> None:
        super()._deserialize_data()  # type: ignore[no-untyped-call]
        path = self._func_name
        is_ours = isinstance(path, str) and path in JOBS and not self._instance and not self._kwargs
        if not is_ours or not _is_one_id(self._args):
            self._func_name, self._instance, self._args, self._kwargs = None, None, [], {}  # type: ignore[assignment]
            raise DeserializationError("This is not one of our jobs.")


def _is_one_id(arguments: object) -> bool:
    if not isinstance(arguments, list) or len(arguments) != 1:
        return False
    return isinstance(arguments[0], str) and ARGUMENT.fullmatch(arguments[0]) is not None


def named(name: str, redis: Redis | None = None) -> Queue:
    """Return the rq queue with that name. Its jobs are JSON."""
    return Queue(name, connection=redis or connection(), job_class=QueuedJob, serializer=JSONSerializer)


@dataclass(frozen=True)
class WorkerSummary:
    """A worker that is alive."""

    name: str
    queues: tuple[str, ...]


def connection() -> Redis:
    """Return the app's Redis client."""
    return cast(Redis, current_app.extensions["redis"])


def enqueue(queue_name: str, path: str, subject_id: object, job_id: str, first: bool = False) -> None:
    """Put a job into a queue, before all others if `first`. Raise QueueUnavailable.

    `path` is the job's dotted path, `subject_id` its only argument; `job_id` must not contain a colon.
    """
    try:
        named(queue_name).enqueue_call(
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
    """Return the id of a periodic job's entry."""
    return f"tick-{name}"


def knows(queue_name: str, job_id: str) -> bool:
    """Return whether a job waits in that queue, or is running on a worker that is alive. Raise redis.RedisError."""
    redis = connection()
    try:
        job = QueuedJob.fetch(job_id, connection=redis)
    except NoSuchJobError:
        return False
    if job.get_status() == JobStatus.STARTED and job.last_heartbeat:
        return _is_recent(job.last_heartbeat)
    return named(queue_name).get_job_position(job_id) is not None


def _is_recent(heartbeat: datetime) -> bool:
    aware = heartbeat if heartbeat.tzinfo else heartbeat.replace(tzinfo=UTC)
    return datetime.now(UTC) - aware < HEARTBEAT_GRACE


def forget(queue_name: str, job_id: str) -> None:
    """Remove a job that need not run any more.

    An unreachable Redis is not an error: a job whose row is closed does nothing.
    """
    try:
        named(queue_name).remove(job_id)
    except RedisError:
        return


def drop_repeats(queue_name: str, job_id: str) -> None:
    """Remove all entries of a periodic job, which pile up while no worker runs."""
    connection().lrem(named(queue_name).key, 0, job_id)


def workers() -> list[WorkerSummary]:
    """Return the workers that are alive. Raise redis.RedisError."""
    alive = []
    for worker in Worker.all(connection=connection()):
        # One that has just started has none yet.
        if worker.last_heartbeat is None or _is_recent(worker.last_heartbeat):
            alive.append(WorkerSummary(worker.name, tuple(worker.queue_names())))
    return alive


def current_worker() -> str:
    """Return the name of the worker whose job we are, or "worker" outside of one."""
    job = get_current_job()
    return (job.worker_name if job else None) or "worker"


def length(queue_name: str) -> int:
    """Return how many jobs wait in a queue. Raise redis.RedisError."""
    return named(queue_name).count


def has_worker(queue_name: str) -> bool:
    """Return whether a worker that is alive serves a queue. Raise redis.RedisError."""
    return any(queue_name in worker.queues for worker in workers())
