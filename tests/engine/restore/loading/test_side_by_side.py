"""Work on several connections at once: what is stopped ends soon, whatever its threads were at."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import dict_row

from app.engine.restore.loading.side_by_side import SideBySide, Task
from app.engine.source.postgres import Connection
from tests.support.databases import SourceDatabase

CALM_SECONDS = 0.8


@pytest.fixture
def connections(small_database: SourceDatabase) -> Iterator[list[Connection]]:
    opened = [psycopg.connect(small_database.url, autocommit=True, row_factory=dict_row) for _ in range(3)]
    yield opened
    for connection in opened:
        connection.close()


def test_a_stop_reaches_a_thread_between_two_statements_and_one_that_waits_for_another(
    connections: list[Connection],
) -> None:
    begun, turn, ends = threading.Barrier(3), threading.Lock(), []

    def sleep_in_the_server(connection: Connection) -> None:
        try:
            connection.execute("SELECT pg_sleep(600)")
        except psycopg.errors.QueryCanceled:
            ends.append("cancelled")
            raise

    def between_two_statements(connection: Connection) -> None:
        begun.wait()
        time.sleep(CALM_SECONDS)
        sleep_in_the_server(connection)

    def in_turn(connection: Connection) -> None:
        begun.wait()
        with turn:
            sleep_in_the_server(connection)

    def fail(_: Connection) -> None:
        begun.wait()
        raise ValueError("no more")

    for other in (between_two_statements, in_turn):
        ends.clear()
        begun.reset()
        side_by_side = SideBySide(connections)
        with pytest.raises(ValueError, match="no more"):
            side_by_side.run([Task(1, other), Task(1, in_turn), Task(1, fail)], lambda _: None)
        side_by_side.close()
        assert ends == ["cancelled", "cancelled"]
        assert all(connection.execute("SELECT 1").fetchone() for connection in connections)


def test_tasks_wait_for_those_before_them_and_the_heaviest_comes_first(connections: list[Connection]) -> None:
    done: list[int] = []
    tasks = [Task(weight, lambda _, weight=weight: done.append(weight)) for weight in (3, 9, 5)]  # type: ignore[misc]
    last = Task(99, lambda _: done.append(99))
    for task in tasks:
        task.before(last)
    side_by_side = SideBySide(connections[:1])
    side_by_side.run([last, *tasks], lambda _: None)
    side_by_side.close()
    assert done == [9, 5, 3, 99]
