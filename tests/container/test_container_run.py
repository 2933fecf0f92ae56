"""The commands of compose.yaml, with its environment, on what the Dockerfile copies: as near to containers as one gets
without a Docker engine. Run as a user who is not root, where the tests are."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from app.demo.processes import free_port
from app.demo.servers import EmbeddedPostgres
from app.demo.valkey import valkey_program
from tests.support import compose
from tests.support.processes import SESSION_VARIABLE, wait_until

pytestmark = pytest.mark.heavy

# Another environment may be given: the one that the Dockerfile builds.
PYTHON = Path(os.environ.get("CONTAINER_PYTHON", sys.executable))
STRANGER = 10001


class Containers:
    """What compose.yaml runs, on this machine: each container's folders are somewhere below `folder`."""

    def __init__(self, folder: Path, owner: int) -> None:
        self.folder, self.owner = folder, owner
        self.places = {
            "/run/backup": folder / "secrets",
            "/run/backup-postgres": folder / "postgres-password",
            "/run/backup-valkey": folder / "valkey-config",
            "/app/data/backups": folder / "backups",
            "/app/data/app": folder / "app",
        }
        self.image = folder / "image"
        self.web_port = free_port()
        self.environ = {"BACKUP_UID": str(owner), "BACKUP_GID": str(owner), "PORT": str(self.web_port)}
        self._started: list[subprocess.Popen[str]] = []
        compose.copied_into_image(self._made(self.image))

    def _made(self, path: Path) -> Path:
        path.mkdir()
        return path

    @property
    def services(self) -> dict[str, Any]:
        services: dict[str, Any] = compose.read(self.environ)["services"]
        return services

    def options(self, service: str, **changes: str) -> dict[str, Any]:
        """Return how a service's process is started."""
        told = {name: compose.moved(value, self.places) for name, value in self.services[service]["environment"].items()}
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", SESSION_VARIABLE) if name in os.environ}
        path = f"{PYTHON.parent}:{os.environ['PATH']}"
        base = {"PATH": path, "HOME": "/tmp", "TZ": "UTC", "FLASK_APP": str(self.image / "wsgi.py"), "PYTHONUNBUFFERED": "1"}
        base |= {"HEALTH_URL": f"http://127.0.0.1:{self.web_port}/healthz", "PYTHONDONTWRITEBYTECODE": "1"}
        options: dict[str, Any] = {"cwd": self.image, "env": base | kept | told | changes, "text": True}
        if service != "init" and os.geteuid() == 0:
            options |= {"user": self.owner, "group": self.owner, "extra_groups": []}
        return options

    def command(self, service: str) -> list[str]:
        """Return a service's command, adapted to this machine."""
        given = self.services[service].get("command") or compose.image_command()
        return [part if part == "/data" else compose.moved(part, self.places) for part in given]

    def run(self, service: str, command: list[str] | None = None, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a service, or another command in it, to its end."""
        return subprocess.run(
            command or self.command(service), capture_output=True, timeout=120, **self.options(service, **changes)
        )

    def start(self, service: str, command: list[str] | None = None) -> None:
        """Start a service that stays."""
        log = (self.folder / f"{service}.log").open("w")
        options = self.options(service) | {"stdout": log, "stderr": log, "start_new_session": True}
        self._started.append(subprocess.Popen(command or self.command(service), **options))

    def is_healthy(self, service: str) -> bool:
        """Ask as the service's health check does."""
        _, *command = self.services[service]["healthcheck"]["test"]
        return self.run(service, command).returncode == 0

    def log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text()

    def stop(self) -> list[int]:
        """End what was started, as Docker does; return the exit codes."""
        for process in self._started:
            process.terminate()
        codes = [process.wait(60) for process in self._started]
        self._started.clear()
        return codes


def _may_run_as(user: int) -> bool:
    try:
        subprocess.run([PYTHON, "-c", "import flask"], user=user, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@pytest.fixture
def containers() -> Iterator[Containers]:
    """The services of compose.yaml, none of them started."""
    owner = STRANGER if os.geteuid() == 0 and _may_run_as(STRANGER) else os.geteuid()
    with tempfile.TemporaryDirectory(prefix="containers-") as name:
        Path(name).chmod(0o755)
        made = Containers(Path(name), owner)
        try:
            yield made
        finally:
            made.stop()


def start_servers(containers: Containers, running: ExitStack) -> None:
    """Start PostgreSQL and Valkey with what `init` has made for them, and let .env name their addresses."""
    password = (containers.places["/run/backup-postgres"] / "password").read_text()
    postgres = running.enter_context(EmbeddedPostgres(18, containers.folder / "postgres", password=password, durable=True))
    port = free_port()
    (data := containers.folder / "valkey").mkdir()
    _, *arguments = (str(data) if part == "/data" else part for part in containers.command("valkey"))
    here = ["--port", str(port), "--bind", "127.0.0.1"]
    valkey = subprocess.Popen([valkey_program(), *arguments, *here], stdout=subprocess.DEVNULL)
    running.callback(valkey.wait)
    running.callback(valkey.terminate)
    secrets = containers.places["/run/backup"]
    for name, wrong, right in (
        ("DATABASE_URL", "postgres:5432", f"127.0.0.1:{postgres.port}"),
        ("BACKUP_SOURCE_URL", "postgres:5432", f"127.0.0.1:{postgres.port}"),
        ("REDIS_URL", "valkey:6379", f"127.0.0.1:{port}"),
    ):
        url = (secrets / name.lower()).read_text()
        assert wrong in url
        containers.environ[name] = url.replace(wrong, right)


def test_the_stack_starts_without_a_change_makes_a_backup_and_ends(containers: Containers) -> None:
    with ExitStack() as running:
        first = containers.run("init")
        assert first.returncode == 0, first.stderr
        assert "docker compose exec web cat" in first.stdout
        admin_password = (containers.places["/run/backup"] / "admin_password").read_text()
        start_servers(containers, running)
        again = containers.run("init")
        assert (again.returncode, again.stdout.splitlines()[-1]) == (0, "Everything is ready.")
        assert "Sign in as" in again.stdout
        assert (containers.places["/run/backup"] / "admin_password").read_text() == admin_password

        shell, flag, text = containers.command("migrate")
        migrated = containers.run("migrate", [shell, flag, text.replace("--host postgres", "--host 127.0.0.1")])
        assert migrated.returncode == 0, migrated.stderr

        web = [part.replace("0.0.0.0:8000", f"127.0.0.1:{containers.web_port}") for part in containers.command("web")]
        containers.start("web", web)
        containers.start("worker")
        containers.start("scheduler")
        for service in ("web", "worker", "scheduler"):
            assert wait_until(lambda name=service: containers.is_healthy(name), 60), containers.log(service)

        made = containers.run("web", ["flask", "backup", "create", "--wait"])
        assert made.returncode == 0, made.stderr
        (archive,) = containers.places["/app/data/backups"].glob("*.tar.gz")
        assert archive.stat().st_uid == containers.owner
        doctor = containers.run("web", ["flask", "doctor", "--json"])
        report = json.loads(doctor.stdout)
        assert [finding for finding in report["findings"] if finding["level"] == "problem"] == []
        assert doctor.returncode == 0
        check_log(containers)
        until = time.monotonic() + 30
        assert containers.stop() == [0, 0, 0]
        assert time.monotonic() < until
        assert not containers.is_healthy("web")
        assert not containers.is_healthy("scheduler")


def check_log(containers: Containers) -> None:
    """Every line is an object, those of the backup's run have its id, and none holds a secret."""
    assert [line for name in ("web", "scheduler") for line in containers.log(name).splitlines() if line[:1] != "{"] == []
    lines = [json.loads(line) for line in containers.log("worker").splitlines()]
    (begun,) = [line for line in lines if line["event"] == "backup begins"]
    assert re.fullmatch(r"[0-9a-f-]{36}", begun["backup_id"])
    (ended,) = [line for line in lines if line["event"] == "backup completed"]
    assert ended["backup_id"] == begun["backup_id"]
    secrets = [
        path.read_text()
        for path in containers.places["/run/backup"].iterdir()
        if path.name in ("secret_key", "admin_password")
    ]
    for service in ("web", "worker", "scheduler"):
        assert not any(secret in containers.log(service) for secret in secrets)


def test_the_health_check_of_a_service_that_never_started_fails(containers: Containers) -> None:
    containers.run("init")
    for service in ("web", "worker", "scheduler"):
        assert not containers.is_healthy(service), shlex.join(containers.command(service))
