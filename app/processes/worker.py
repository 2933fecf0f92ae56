"""`flask worker`: rq workers on our queues."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any
from uuid import UUID

import structlog
from flask import Flask
from redis import Redis
from redis.client import Pipeline
from rq import Queue, Worker, worker_registration
from rq.exceptions import DeserializationError, StopRequested
from rq.job import Job
from rq.serializers import JSONSerializer

from app import logs
from app.extensions import db
from app.runs import queue, verification_steps
from app.services.installation.settings_watch import EXIT_SETTINGS_CHANGED, Watch
from app.services.recovery import backup_recovery, restore_recovery

logger = structlog.get_logger(__name__)

# An idle worker renews its heartbeat 15 seconds before this has passed.
WORKER_TTL_SECONDS = 30
MONITOR_SECONDS = 15
PR_SET_PDEATHSIG = 1


class BackupWorker(Worker):
    """An rq worker whose jobs run in the app's context, and which cleans up at once after a killed work horse."""

    app: Flask
    watch: Watch
    settings_changed = False
    _busy = False

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """Run in the forked child, which must not share connections with its parent."""
        with self.app.app_context():
            db.engine.dispose(close=False)
            # For rq's own log lines, which follow those of the job.
            structlog.contextvars.bind_contextvars(job=job.id)
            super().main_work_horse(job, queue)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """Renew heartbeat and registration: after a flush, Redis would otherwise show no worker until a restart."""
        if self._outdated() and not self._busy:
            raise StopRequested
        redis = self.connection if pipeline is None else pipeline
        redis.hset(self.key, mapping=self.serialize())
        worker_registration.register(self, pipeline)
        super().heartbeat(timeout, pipeline)
        self.watch.report(self.connection)

    def reorder_queues(self, reference_queue: Queue) -> None:
        """Note that a job was dequeued, so that it must be run or returned (rq 3.0 calls this right after dequeuing)."""
        self._busy = True
        super().reorder_queues(reference_queue)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run the job, unless the settings changed: then leave it to a process that has read the new ones."""
        if self._outdated():
            with self.connection.pipeline() as pipeline:
                pipeline.lrem(queue.intermediate_queue_key, 1, job.id)
                queue.push_job_id(job.id, pipeline=pipeline, at_front=True)
                pipeline.execute()
            raise StopRequested
        try:
            if self._is_ours(job, queue):
                super().execute_job(job, queue)
        finally:
            self._busy = False

    def _is_ours(self, job: Job, queue: Queue) -> bool:
        """Return whether a job may be run; delete it if not. A row whose job was pickled by an older version is enqueued
        again by the next tick."""
        try:
            return job.func_name is not None
        except DeserializationError:
            logger.warning("refused and deleted a job that is not ours", job=job.id, queue=queue.name)
            self.connection.lrem(queue.intermediate_queue_key, 1, job.id)
            job.delete()
            return False

    def teardown(self) -> None:
        """Report that this process ends."""
        if not self.is_horse:
            self.watch.withdraw(self.connection)
        super().teardown()  # type: ignore[no-untyped-call]  # rq has not typed this one

    def _outdated(self) -> bool:
        if not self.settings_changed and self.watch.changed():
            # A running job is finished first.
            self.settings_changed = self._stop_requested = True
        return self.settings_changed

    def handle_work_horse_killed(self, job: Job, retpid: Any, ret_val: Any, rusage: Any) -> None:  # noqa: ARG002 - rq's
        """Close the row of a killed job, which could not do so itself."""
        with self.app.app_context(), logs.bound(job=job.id):
            try:
                if job.func_name in (queue.BACKUP_JOB, queue.CHECK_JOB):
                    backup_recovery.recover(UUID(job.args[0]))
                elif job.func_name == queue.RESTORE_JOB:
                    restore_recovery.recover(UUID(job.args[0]))
                elif job.func_name == queue.VERIFY_JOB:
                    verification_steps.abandon(UUID(job.args[0]))
            except Exception:
                # The minute tick retries; the worker must survive.
                logger.exception("could not close a killed job; the next tick retries")
            finally:
                # No connection may be open when the next work horse is forked.
                db.session.remove()
                db.engine.dispose()


def serve(app: Flask, queue_names: Sequence[str], burst: bool = False) -> None:
    """Work on these queues, in order of priority, until asked to stop (burst: until they are empty).

    Raise SystemExit with EXIT_SETTINGS_CHANGED if a setting's file changed.
    """
    settings = app.config["SETTINGS"]
    with app.app_context():
        try:
            backup_recovery.reconcile()
            restore_recovery.reconcile(thorough=True)
        finally:
            db.session.remove()
            db.engine.dispose()
    # Its own client: a worker blocks on Redis for longer than the web's timeouts allow.
    redis = Redis.from_url(settings.redis_url, socket_keepalive=True, health_check_interval=30)
    worker = BackupWorker(
        [queue.named(name, redis) for name in queue_names],
        connection=redis,
        job_class=queue.QueuedJob,
        serializer=JSONSerializer,
        worker_ttl=WORKER_TTL_SECONDS,
        job_monitoring_interval=MONITOR_SECONDS,
    )
    worker.app = app
    worker.watch = Watch("worker", settings)
    worker.work(burst=burst, logging_level="WARNING")
    if worker.settings_changed:
        sys.exit(EXIT_SETTINGS_CHANGED)


def supervise(queue_names: Sequence[str]) -> int:
    """Run a worker process for each queue, so that ticks never wait behind a long backup, and return the exit code.

    One whose settings changed is restarted once its job is done. When one ends otherwise, or we are asked to stop, all of
    them are stopped.
    """

    def start(name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "flask", "worker", "--queue", name]
        return subprocess.Popen(command, env={**os.environ, PARENT: str(os.getpid())})

    children = [start(name) for name in queue_names]
    stopping = False

    def stop(_signum: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while not stopping:
        for number, name in enumerate(queue_names):
            if children[number].poll() == EXIT_SETTINGS_CHANGED:
                children[number] = start(name)
        if any(child.poll() is not None for child in children):
            break
        time.sleep(0.2)
    asked = stopping
    if not asked:
        logger.error("a worker process ended unexpectedly; stopping the others")
        stop(signal.SIGTERM, None)
    for child in children:
        child.wait()
    return 0 if asked else 1


PARENT = "BACKUP_WORKER_PARENT"


def follow_parent() -> None:
    """Stop gracefully when the supervising process dies for any reason (Linux)."""
    parent = os.environ.get(PARENT)
    if parent is None or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):
        raise SystemExit("The process that started this worker is gone.")
