"""Real servers for every test: one PostgreSQL cluster a version and one Valkey for each pytest process.

They start when first needed and end with the session.
"""

from __future__ import annotations

import itertools
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app.demo.servers import EmbeddedPostgres, EmbeddedValkey
from tests.support.application import app, environment, make_row, migrated, processes, settings, token, worker
from tests.support.databases import SourceDatabase, fresh_database, fresh_source
from tests.support.documents import write_documents
from tests.support.processes import SESSION_VARIABLE, left_over

__all__ = ["app", "environment", "make_row", "migrated", "processes", "settings", "token", "worker"]

_redis_databases = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left() -> Iterator[None]:
    """Mark everything the session starts; fail at its end if something of it still runs. First made, so last undone."""
    session = secrets.token_hex(8)
    os.environ[SESSION_VARIABLE] = session
    yield
    remaining = left_over(session)
    assert not remaining, f"the tests left processes behind: {remaining}"


def _cluster(version: int, folder: Path) -> Iterator[EmbeddedPostgres]:
    with EmbeddedPostgres(version, folder / "data", durable=False, socket_dir=folder / "socket") as server:
        yield server


@pytest.fixture(scope="session")
def pg18(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL 18 server; `.url()` is the superuser's, `.bin_dir` has its client programs."""
    yield from _cluster(18, tmp_path_factory.mktemp("pg18"))


@pytest.fixture(scope="session")
def pg16(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL 16 server."""
    yield from _cluster(16, tmp_path_factory.mktemp("pg16"))


@pytest.fixture(params=[16, 18], ids=["pg16", "pg18"])
def pg(request: pytest.FixtureRequest) -> EmbeddedPostgres:
    """Each PostgreSQL server in turn: a test that asks for it runs twice."""
    server: EmbeddedPostgres = request.getfixturevalue(f"pg{request.param}")
    return server


@pytest.fixture
def source_db(pg18: EmbeddedPostgres) -> Iterator[SourceDatabase]:
    """An empty database on PostgreSQL 18 whose owner is no superuser."""
    with fresh_source(pg18) as source:
        yield source


@pytest.fixture
def source_db_each(pg: EmbeddedPostgres) -> Iterator[SourceDatabase]:
    """The same on PostgreSQL 16 and 18 in turn."""
    with fresh_source(pg) as source:
        yield source


@pytest.fixture
def metadata_url(pg18: EmbeddedPostgres, migrated: str) -> Iterator[str]:
    """The URL of a database with this app's own tables, which are empty."""
    with fresh_database(pg18, migrated) as url:
        yield url


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """A Valkey server that keeps nothing."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey") / "data") as server:
        yield server


@pytest.fixture
def redis_url(valkey: EmbeddedValkey) -> str:
    """The URL of an empty database of the Valkey server."""
    url = valkey.url(next(_redis_databases) % 64)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def documents_dir(tmp_path: Path) -> Path:
    """A small documents folder: three users with text, photos, an empty file, an empty folder and a symlink each."""
    folder = tmp_path / "documents"
    folder.mkdir(mode=0o700)
    write_documents(folder)
    return folder


@pytest.fixture
def storage_dir(tmp_path: Path) -> Path:
    """An empty folder for archives, mode 0700."""
    folder = tmp_path / "backups"
    folder.mkdir(mode=0o700)
    return folder
