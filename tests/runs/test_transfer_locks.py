"""The locks of uploads and downloads: many, on one connection."""

from __future__ import annotations

from contextlib import ExitStack
from uuid import uuid4

from apiflask import APIFlask
from sqlalchemy import text

from app.extensions import db
from app.runs import locks, transfer_locks
from tests.support.application import wait_for

OURS = "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'lock transfers'"


def connections() -> int:
    found: int = db.session.scalar(text(f"SELECT count(*) {OURS}")) or 0
    db.session.rollback()
    return found


def test_many_downloads_take_one_connection_and_none_when_they_are_over(app: APIFlask) -> None:
    names = [locks.archive_name(uuid4()) for _ in range(20)]
    taken = [transfer_locks.acquire(name, shared=True) for name in [*names, names[0]]]
    assert None not in taken
    assert connections() == 1
    assert locks.held(names) == set(names)

    assert taken[0] is not None
    taken[0].release()
    # Somebody else reads the first one still.
    assert locks.acquire(names[0]) is None
    for lock in taken[1:]:
        assert lock is not None
        lock.release()
    assert locks.held(names) == set()
    wait_for(lambda: connections() == 0)


def test_what_somebody_else_holds_is_refused_and_no_connection_stays(app: APIFlask) -> None:
    name = locks.archive_name(uuid4())
    with locks.holding(name):
        assert transfer_locks.acquire(name, shared=True) is None
        wait_for(lambda: connections() == 0)


def test_after_a_restart_of_the_server_the_next_transfer_gets_its_lock(app: APIFlask) -> None:
    first, second = locks.archive_name(uuid4()), locks.archive_name(uuid4())
    with ExitStack() as stack:
        before = transfer_locks.acquire(first, shared=True)
        assert before is not None
        stack.callback(before.release)
        db.session.execute(text(f"SELECT pg_terminate_backend(pid, 5000) {OURS}"))
        db.session.rollback()
        after = transfer_locks.acquire(second, shared=True)
        assert after is not None
        stack.callback(after.release)
        assert locks.held([first, second]) == {second}
        before.release()
        assert locks.held([second]) == {second}
    wait_for(lambda: connections() == 0)
