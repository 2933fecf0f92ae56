"""Work that moves no byte for long, such as an index being built: signs of life go on, and it can still be cancelled."""

from __future__ import annotations

import time
from functools import partial
from itertools import pairwise

import psycopg
import pytest

from app.engine.progress import Meter
from app.engine.source import postgres
from tests.support.databases import SourceDatabase


class Enough(Exception):
    """Raised by a progress function that wants to stop."""


def test_a_statement_longer_than_the_stall_time_is_no_stall_and_the_caller_hears_of_it(source_db: SourceDatabase) -> None:
    heard: list[float] = []
    meter = Meter(lambda *_: heard.append(time.monotonic()), stall_seconds=0.6)
    meter.phase("indexes")
    with postgres.connect(source_db.url, "silent work") as connection:
        row = meter.during(lambda: connection.execute("SELECT pg_sleep(2), 7 AS answer").fetchone(), connection.cancel_safe)
    assert row is not None
    assert row["answer"] == 7
    assert len(heard) >= 4
    assert max(after - before for before, after in pairwise(heard)) < 1.5


def test_cancelling_ends_the_statement_on_the_server(source_db: SourceDatabase) -> None:
    def stop(phase: str, done: int, total: int | None) -> None:
        if time.monotonic() > began + 1:
            raise Enough

    began = time.monotonic()
    meter = Meter(stop)
    with postgres.connect(source_db.url, "silent work") as connection:
        with pytest.raises(Enough):
            meter.during(lambda: connection.execute("SELECT pg_sleep(60)"), partial(connection.cancel_safe, timeout=5))
        assert time.monotonic() - began < 10
        assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}


def test_what_the_work_raises_is_raised(source_db: SourceDatabase) -> None:
    with postgres.connect(source_db.url, "silent work") as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            Meter().during(lambda: connection.execute("SELECT * FROM nowhere"), connection.cancel_safe)
