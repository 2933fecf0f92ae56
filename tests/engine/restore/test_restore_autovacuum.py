"""Autovacuum at work in a database keeps nobody from dropping or exchanging it, not even an owner who is no superuser."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.restore.places import exchange, staging_database
from app.engine.restore.restore import restore
from app.engine.restore.swap import discard
from tests.support.databases import SourceDatabase, admin_connection
from tests.support.processes import wait_until
from tests.support.restoring import pristine
from tests.support.small_pair import SMALL_SCHEMA

SLOW_TO_VACUUM = """
CREATE TABLE slow (n int) WITH (autovacuum_vacuum_insert_threshold = 0, autovacuum_vacuum_threshold = 0,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_cost_delay = 100);
INSERT INTO slow SELECT generate_series(1, 500000);
DELETE FROM slow WHERE n % 10 = 0;
"""
_WORKERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'autovacuum worker'"


@contextmanager
def autovacuum_at(server: EmbeddedPostgres, name: str, url: str) -> Iterator[None]:
    """Have autovacuum working on a database when the block begins."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SLOW_TO_VACUUM)
    with admin_connection(server) as connection:
        connection.execute("ALTER SYSTEM SET autovacuum_naptime = '1s'")
        connection.execute("SELECT pg_reload_conf()")
        try:
            until = time.monotonic() + 90
            while connection.execute(_WORKERS, [name]).fetchone() == (0,):
                assert time.monotonic() < until, "autovacuum has not come"
                time.sleep(0.05)
            yield
        finally:
            connection.execute("ALTER SYSTEM RESET autovacuum_naptime")
            connection.execute("SELECT pg_reload_conf()")


def test_its_owner_drops_a_database_that_autovacuum_is_at(source_db_each: SourceDatabase) -> None:
    source = source_db_each
    with autovacuum_at(source.server, source.name, source.url):
        with psycopg.connect(source.url) as idle, staging_database.maintenance(source.url, uuid4()) as connection:
            staging_database.drop(connection, source.name)
            with pytest.raises(psycopg.OperationalError):
                idle.execute("SELECT 1")
        with admin_connection(source.server) as admin:
            assert admin.execute("SELECT FROM pg_database WHERE datname = %s", [source.name]).fetchone() is None


def test_its_owner_ends_the_sessions_of_a_database_that_autovacuum_is_at(source_db_each: SourceDatabase) -> None:
    """Where the server answers an attempt to end autovacuum's with an error, nobody else's would end either."""
    source = source_db_each
    with autovacuum_at(source.server, source.name, source.url), psycopg.connect(source.url) as idle:
        with staging_database.maintenance(source.url, uuid4()) as helper, admin_connection(source.server) as admin:
            oid = exchange.live_oid(helper, source.name)
            assert oid is not None
            with exchange.sessions_ended(helper, [oid]):
                still_there = "SELECT FROM pg_stat_activity WHERE pid = %s"
                assert wait_until(lambda: admin.execute(still_there, [idle.info.backend_pid]).fetchone() is None)
            assert admin.execute(_WORKERS, [source.name]).fetchone() != (0,), "autovacuum had left; nothing was tried"


def test_a_restore_replaces_a_database_that_autovacuum_is_at(pg: EmbeddedPostgres, tmp_path: Path) -> None:
    (tmp_path / "pristine").mkdir()
    (tmp_path / "live").mkdir()
    with pristine(pg, tmp_path / "pristine", SMALL_SCHEMA) as made, made.live(tmp_path / "live") as live:
        before = live.state()
        with autovacuum_at(pg, live.name, live.url):
            request = live.request(made.archive)
            restore(request)
            assert live.state() == before
            discard(request.state_dir, request.restore_id, request.target)
            assert live.remains() == []
