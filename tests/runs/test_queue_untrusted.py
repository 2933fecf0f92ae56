"""What lies in Redis is not trusted: a worker runs our own jobs and nothing else."""

from __future__ import annotations

import json
import os
import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from apiflask import APIFlask
from redis import Redis
from rq import Queue
from rq.exceptions import DeserializationError
from rq_scheduler import Scheduler  # type: ignore[import-untyped]

from app.processes.scheduler import ENTRIES, TickScheduler, reconcile_entries
from app.runs import queue
from app.services.backups import backups
from app.services.recovery import backup_recovery
from tests.support.application import TESTER, Processes, finished, wait_for

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:rq_scheduler")


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def plant(name: str, data: bytes, line: str = queue.TICKS, **more: str) -> None:
    """Write a job into Redis as somebody does who can write there."""
    redis = queue.connection()
    fields = {"data": data, "origin": line, "status": "queued", "created_at": "2026-01-01T00:00:00.000000Z", **more}
    redis.hset(f"rq:job:{name}", mapping=fields)
    redis.sadd("rq:queues", f"rq:queue:{line}")
    redis.rpush(f"rq:queue:{line}", name)


def as_json(path: str, *arguments: Any, instance: object = None, **options: Any) -> bytes:
    return json.dumps([path, instance, list(arguments), options]).encode()


def test_a_worker_runs_no_job_that_somebody_else_wrote(app: APIFlask, processes: Processes, tmp_path: Path) -> None:
    made, backup_id = tmp_path / "made", str(uuid4())
    planted = {
        "pickle": pickle.dumps(("app.jobs.tick.run", None, (Touch(made),), {})),
        "pickled-name": pickle.dumps(("os.system", None, (f"touch {made}",), {})),
        "json": as_json("os.system", f"touch {made}"),
        "instance": as_json(queue.TICK_JOB, "check", instance="x"),
        "options": as_json(queue.TICK_JOB, "check", more="x"),
        "two": as_json(queue.BACKUP_JOB, backup_id, backup_id),
        "object": as_json(queue.BACKUP_JOB, {"a": 1}),
        "path": as_json(queue.BACKUP_JOB, "../../etc/passwd"),
        "neither": b"\x00\xff no job at all",
        "deep": b"[" * 100_000,
    }
    for name, data in planted.items():
        plant(name, data)
    processes.start("worker", "--queue", "ticks")
    redis = queue.connection()
    wait_for(lambda: not any(redis.exists(f"rq:job:{name}") for name in planted))
    assert redis.llen("rq:queue:ticks") == 0
    assert not made.exists()
    assert [worker.queues for worker in queue.workers()] == [("ticks",)], "the worker lives on"


def test_what_a_job_names_besides_is_not_called() -> None:
    names = {f"{kind}_callback_name": b"os.system" for kind in ("success", "failure", "stopped")}
    job = queue.QueuedJob("one", connection=Redis())
    job.restore(
        {b"data": as_json(queue.TICK_JOB, "check"), b"webhooks": b'[{"url": "http://192.0.2.1/"}]'}
        | {name.encode(): value for name, value in names.items()}
    )
    assert (job.success_callback, job.failure_callback, job.stopped_callback, job.webhooks) == (None, None, None, [])
    assert job.func_name == queue.TICK_JOB


def test_a_backup_whose_job_an_older_version_left_is_made_all_the_same(
    app: APIFlask, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = backups.start(TESTER)
    queue.forget(queue.BACKUPS, f"backup-{row.id}")
    old = Queue(queue.BACKUPS, connection=queue.connection())
    old.enqueue_call(func=queue.BACKUP_JOB, args=(str(row.id),), job_id=f"backup-{row.id}")
    with pytest.raises(DeserializationError):
        assert queue.QueuedJob.fetch(f"backup-{row.id}", connection=queue.connection()).func_name
    processes.start("worker", "--queue", "backups")
    wait_for(lambda: not queue.knows(queue.BACKUPS, f"backup-{row.id}"))
    monkeypatch.setattr(backup_recovery, "IN_TRANSIT", timedelta(0))
    backup_recovery.reconcile()
    assert finished(row).status == "completed"


def test_the_entries_of_an_older_scheduler_are_replaced(app: APIFlask) -> None:
    old = Scheduler(queue_name=queue.TICKS, connection=queue.connection())
    for entry in ENTRIES:
        old.cron(entry.cron, entry.path, args=[entry.name], id=entry.id, queue_name=queue.TICKS)
    old.cron("* * * * *", "os.system", args=["true"], id="not-ours", meta={"queue_class_name": "os.system"})
    scheduler = TickScheduler(queue_name=queue.TICKS, connection=queue.connection())
    reconcile_entries(scheduler)
    for entry in ENTRIES:
        assert queue.QueuedJob.fetch(entry.id, connection=queue.connection()).args == [entry.name]
    scheduler.enqueue_jobs()
    assert queue.named(queue.TICKS).job_ids == ["tick-check"]
