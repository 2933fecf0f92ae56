"""The app on real servers, for tests of the house, the API and the commands."""

from __future__ import annotations

import contextvars
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from app import create_app
from app.config import Settings, read_settings
from app.demo.servers import EmbeddedPostgres
from app.extensions import db
from app.models import BackupHistory, utcnow
from app.services.audit.actor import Actor
from app.services.backups import backups
from app.services.people import tokens
from tests.support.databases import SourceDatabase, create_database

ROOT = Path(__file__).resolve().parents[2]
EMAIL = "admin@example.com"
PASSWORD = "a long enough password"
TESTER = Actor("system", None, "tests")


@pytest.fixture(scope="session")
def migrated(pg18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database that all migrations have run on. Tests work on copies: that is faster than to migrate each."""
    name = create_database(pg18)
    folder = str(tmp_path_factory.mktemp("migrated"))
    app = create_app(
        read_settings(
            {
                "DATABASE_URL": pg18.url(name),
                "REDIS_URL": "redis://127.0.0.1:1/0",
                "SECRET_KEY": "a secret key for the tests",
                "BACKUP_SOURCE_URL": pg18.url("postgres"),
                "BACKUP_DOCUMENTS_DIR": folder,
                "BACKUP_STORAGE_DIR": folder,
                "PG_BIN_DIR": str(pg18.bin_dir),
            }
        )
    )
    with app.app_context():
        upgrade()
        # A database that somebody is connected to can't be copied.
        db.engine.dispose()
    return name


@pytest.fixture
def environment(
    metadata_url: str, redis_url: str, source_db: SourceDatabase, documents_dir: Path, storage_dir: Path
) -> dict[str, str]:
    """The settings as environment variables."""
    with psycopg.connect(source_db.url) as connection:
        connection.execute("CREATE TABLE vehicles (id int PRIMARY KEY, name text)")
        connection.execute("INSERT INTO vehicles SELECT n, 'vehicle ' || n FROM generate_series(1, 1000) n")
    return {
        "DATABASE_URL": metadata_url,
        "REDIS_URL": redis_url,
        "SECRET_KEY": "a secret key for the tests",
        "BACKUP_SOURCE_URL": source_db.url,
        "BACKUP_DOCUMENTS_DIR": str(documents_dir),
        "BACKUP_STORAGE_DIR": str(storage_dir),
        "PG_BIN_DIR": str(source_db.bin_dir),
        "ADMIN_EMAIL": EMAIL,
        "ADMIN_PASSWORD": PASSWORD,
        # Tests ask as fast as they can; test_limits.py counts.
        "RATE_LIMIT_FACTOR": "0",
    }


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    """The settings themselves."""
    return read_settings(environment)


class Client(FlaskClient):
    """A client whose requests do not see the test's own app context: what one leaves in `g`, the next must not find."""

    def open(self, *args: Any, **options: Any) -> Any:
        """Return the response to a request, as a server of its own would give it."""
        return contextvars.Context().run(super().open, *args, **options)


@pytest.fixture
def app(settings: Settings) -> Iterator[APIFlask]:
    """The app with migrated tables, inside its context."""
    app = create_app(settings)
    app.test_client_class = Client
    with app.app_context():
        yield app
        db.session.remove()
        db.engine.dispose()


@pytest.fixture
def token(app: APIFlask) -> Callable[..., dict[str, str]]:
    """A function that makes a token with the given scopes and returns the header that sends it."""

    def make(*scopes: str) -> dict[str, str]:
        _, secret = tokens.create(TESTER, "test", scopes)
        return {"Authorization": f"Bearer {secret}"}

    return make


@pytest.fixture
def make_row(app: APIFlask, storage_dir: Path) -> Callable[..., BackupHistory]:
    """A function that adds a backup's row with the given columns; a completed one gets a file of
    its size, 19 bytes if none is given."""
    number = 0

    def make(status: str = "completed", **columns: Any) -> BackupHistory:
        nonlocal number
        number += 1
        started = utcnow() - timedelta(hours=number)
        values: dict[str, Any] = {"kind": "manual", "created_at": started, "requested_by": EMAIL}
        if status != "queued":
            values["started_at"] = started
        if status == "failed":
            values["error"] = "pg_dump lost its connection. Check BACKUP_SOURCE_URL."
        if status == "completed":
            name = f"motovaultpro_backup_20260101_{number:06}.tar.gz"
            (storage_dir / name).write_bytes(b"the archive's bytes")
            os.truncate(storage_dir / name, columns.get("size_bytes") or 19)
            values |= {
                "finished_at": started + timedelta(seconds=75),
                "filename": name,
                "size_bytes": 19,
                "sha256": "ab" * 32,
                "summary": {
                    "tables": 14,
                    "rows": 48210,
                    "documents": 312,
                    "documents_bytes": 98_000_000,
                    "server_version": "18.4",
                },
            }
        row = BackupHistory(status=status, **(values | columns))
        db.session.add(row)
        db.session.commit()
        return row

    return make


class Processes:
    """Real `flask` processes with the settings of the test; all of them end with it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = {**os.environ, **environment, "FLASK_APP": "wsgi:app"}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a `flask` command in a process group of its own."""
        process = subprocess.Popen(
            [sys.executable, "-m", "flask", *arguments], cwd=ROOT, env=self.environment, start_new_session=True
        )
        self._started.append(process)
        return process

    def run(self, *arguments: str, stdin: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a `flask` command to its end; `changes` go into its environment."""
        return subprocess.run(
            [sys.executable, "-m", "flask", *arguments],
            cwd=ROOT,
            env={**self.environment, **changes},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def gunicorn(self, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a web process that is expected not to start; `changes` go into its environment."""
        environment = {name: value for name, value in self.environment.items() if name != "FLASK_RUN_FROM_CLI"}
        return subprocess.run(
            [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", "127.0.0.1:0", "--no-control-socket"],
            cwd=ROOT,
            env={**environment, **changes},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def stop(self) -> None:
        """End everything that was started."""
        for process in self._started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._started:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                # A horse is in a process group of its own.
                for member in psutil.Process(process.pid).children(recursive=True):
                    member.kill()
                process.kill()
                process.wait(10)


def alone(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a `flask` command without any settings but these."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "MVP_TEST_SESSION") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "flask", *arguments],
        cwd=ROOT,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def processes(environment: dict[str, str], app: APIFlask) -> Iterator[Processes]:
    """`flask` processes beside the migrated app."""
    started = Processes(environment)
    yield started
    started.stop()


@pytest.fixture
def worker(processes: Processes) -> subprocess.Popen[bytes]:
    """A real worker on all queues, in one process: its horse is its only child."""
    return processes.start("worker", "--queue", "ticks", "--queue", "backups", "--queue", "checks")


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait until a condition is true. Raise AssertionError after that many seconds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        backups.rest()
        time.sleep(0.1)


def finished(row: BackupHistory, seconds: float = 60) -> BackupHistory:
    """Wait until a backup is closed and return its row."""
    row_id = row.id
    wait_for(lambda: backups.get(row_id).status not in ("queued", "in_progress"), seconds)
    return backups.get(row_id)


def unreachable_redis() -> Redis:
    """Return a client of a server that is down."""
    return Redis(port=1, socket_connect_timeout=1, retry=Retry(NoBackoff(), 0))


def make_sparse(path: Path, size_bytes: int) -> None:
    """Create a file that takes a while to read and no disk space."""
    with path.open("wb") as file:
        file.truncate(size_bytes)
