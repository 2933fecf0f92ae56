"""The ticks: entries as data, put right at every poll, and what a tick does."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from apiflask import APIFlask
from redis import Redis
from rq import Queue

from app.extensions import db
from app.models import Tick
from app.processes.scheduler import ENTRIES, Entry, TickScheduler, reconcile_entries
from app.runs import queue
from app.services.schedules import last_ticks
from tests.support.application import Processes, wait_for

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:rq_scheduler")


def scheduler_of(app: APIFlask) -> TickScheduler:
    return TickScheduler(queue_name=queue.TICKS, connection=app.extensions["redis"])


def scheduled(scheduler: TickScheduler) -> dict[str, datetime]:
    """Return each entry's id with the time it is due."""
    return {job.id: when.replace(tzinfo=UTC) for job, when in scheduler.get_jobs(with_times=True)}


def test_the_entries_are_registered_once(app: APIFlask) -> None:
    scheduler = scheduler_of(app)
    for _ in range(3):
        reconcile_entries(scheduler)
    assert set(scheduled(scheduler)) == {"tick-check", "tick-cleanup"}
    assert scheduled(scheduler)["tick-cleanup"].hour == 4


def test_an_entry_that_is_right_keeps_its_overdue_time(app: APIFlask) -> None:
    scheduler = scheduler_of(app)
    reconcile_entries(scheduler)
    overdue = datetime.now(UTC) - timedelta(minutes=5)
    job = queue.QueuedJob.fetch("tick-check", connection=app.extensions["redis"])
    scheduler.connection.zadd(scheduler.scheduled_jobs_key, {job.id: overdue.timestamp()})
    reconcile_entries(scheduler)
    assert abs(scheduled(scheduler)["tick-check"] - overdue) < timedelta(seconds=2)


def test_an_entry_that_is_wrong_or_half_lost_is_put_right(app: APIFlask) -> None:
    scheduler, redis = scheduler_of(app), app.extensions["redis"]
    reconcile_entries(scheduler, [Entry(last_ticks.CHECK, "0 0 1 1 *", queue.TICK_JOB)])
    reconcile_entries(scheduler)
    assert scheduled(scheduler)["tick-check"] - datetime.now(UTC) < timedelta(minutes=1, seconds=5)
    redis.delete("rq:job:tick-check")
    reconcile_entries(scheduler)
    assert queue.QueuedJob.fetch("tick-check", connection=redis).func_name == queue.TICK_JOB
    redis.zrem(scheduler.scheduled_jobs_key, "tick-check")
    reconcile_entries(scheduler)
    assert "tick-check" in scheduler


def test_an_entry_of_an_older_version_goes_and_a_strangers_stays(app: APIFlask) -> None:
    scheduler = scheduler_of(app)
    reconcile_entries(scheduler, [*ENTRIES, Entry("old", "* * * * *", queue.TICK_JOB)])
    scheduler.cron("* * * * *", queue.TICK_JOB, id="somebody-elses")
    reconcile_entries(scheduler)
    assert set(scheduled(scheduler)) == {"tick-check", "tick-cleanup", "somebody-elses"}


def test_a_tick_runs_through_scheduler_and_worker_and_survives_a_flushed_redis(app: APIFlask, processes: Processes) -> None:
    redis: Redis = app.extensions["redis"]
    processes.start("scheduler")
    processes.start("worker", "--queue", "ticks")

    def overdue() -> None:
        """Make the tick due now instead of within a minute."""
        wait_for(lambda: redis.zscore(TickScheduler.scheduled_jobs_key, "tick-check") is not None)
        redis.zadd(TickScheduler.scheduled_jobs_key, {"tick-check": time.time() - 1})

    def last() -> datetime | None:
        db.session.rollback()
        return db.session.scalar(db.select(Tick.last_ran_at).where(Tick.name == last_ticks.CHECK))

    overdue()
    wait_for(last)
    first = last()
    redis.flushdb()
    overdue()
    wait_for(lambda: last() != first)


def test_ticks_that_piled_up_count_as_one(app: APIFlask) -> None:
    redis: Redis = app.extensions["redis"]
    queue.enqueue(queue.TICKS, queue.TICK_JOB, last_ticks.CHECK, queue.tick_id(last_ticks.CHECK))
    for _ in range(600):
        redis.rpush("rq:queue:ticks", "tick-check")
    from app.jobs import tick

    tick.run(last_ticks.CHECK)
    assert redis.llen("rq:queue:ticks") == 0
    assert db.session.get(Tick, last_ticks.CHECK) is not None


def test_the_first_tick_does_not_wait_for_the_full_minute(app: APIFlask) -> None:
    scheduler = scheduler_of(app)
    line = Queue(queue.TICKS, connection=app.extensions["redis"])
    scheduler.enqueue_jobs()
    assert line.job_ids == ["tick-check"]
    assert scheduled(scheduler)["tick-check"] > datetime.now(UTC), "the next one comes at its own time"
    scheduler.enqueue_jobs()
    assert line.count == 1, "only the first poll does that"
    scheduler_of(app).enqueue_jobs()
    queue.drop_repeats(queue.TICKS, "tick-check")
    assert line.count == 0
