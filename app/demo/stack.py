"""The demo's servers and processes: started in order, monitored, stopped in reverse order."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from app.container.databases import make_database
from app.demo.config import APP_NAME, METADATA_NAME, Place, Secrets, process_environment, write_private
from app.demo.processes import StackError, end, last_lines, launch
from app.demo.sample import fill_sample
from app.demo.servers import EmbeddedPostgres, EmbeddedValkey

ROOT = Path(__file__).resolve().parents[2]
WEB_READY_SECONDS = 60.0
LONGEST_PAUSE = 30.0
Say = Callable[[str], None]


@dataclass
class Child:
    """A process of this app that is kept running; `stop_steps` are the signals that end it, with seconds to wait."""

    name: str
    command: Sequence[str]
    stop_steps: Sequence[tuple[signal.Signals, float]]
    # The signal that it gets when the demo itself is killed, while its servers go down at the same moment.
    death_signal: signal.Signals = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None
    pause: float = 1.0
    start_again_at: float = 0.0


def lock_folder(place: Place) -> int:
    """Lock a place for as long as we live and return the descriptor. Raise StackError if it is taken."""
    descriptor = os.open(place.data_dir / "demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(descriptor, 20).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StackError(
            f"A demo already runs on {place.data_dir} (process {holder}): stop it, or choose another DATA_DIR."
        ) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def check_web_port(port: int) -> None:
    """Raise StackError if the web server could not listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise StackError(
                f"Port {port} can't be used ({error.strerror}): choose another one, e.g. "
                f"`make demo PORT={port % 60000 + 1}`."
            ) from None


class Stack:
    """Everything that `make demo` runs on one place."""

    def __init__(self, place: Place, secrets: Secrets, say: Say) -> None:
        self.place = place
        self.secrets = secrets
        self.say = say
        self.postgres = EmbeddedPostgres(18, place.postgres, password=secrets.postgres_password)
        self.valkey = EmbeddedValkey(place.valkey, password=secrets.valkey_password, persist=True)
        flask = [sys.executable, "-m", "flask"]
        gunicorn = [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{place.port}"]
        gunicorn += ["--workers", "2", "--threads", "8", "--no-control-socket"]
        self.children = [
            Child("web", gunicorn, [(signal.SIGTERM, 10), (signal.SIGQUIT, 5)]),
            # A second signal makes the worker exit without waiting for the running job.
            Child("worker", [*flask, "worker"], [(signal.SIGTERM, 10), (signal.SIGTERM, 10)]),
            # It only ticks, so without Redis it has nothing to clean up.
            Child("scheduler", [*flask, "scheduler"], [(signal.SIGTERM, 10)], death_signal=signal.SIGKILL),
        ]
        self._command: subprocess.Popen[bytes] | None = None

    def settings(self) -> dict[str, str]:
        """Return the settings of our processes, which are known once the servers run."""
        return {
            "FLASK_APP": str(ROOT / "wsgi.py"),
            "DATABASE_URL": self.postgres.url(METADATA_NAME, METADATA_NAME, self.secrets.metadata_password),
            "REDIS_URL": self.valkey.url(),
            "SECRET_KEY": self.secrets.secret_key,
            "BACKUP_SOURCE_URL": self.postgres.url(APP_NAME, APP_NAME, self.secrets.app_password),
            "BACKUP_DOCUMENTS_DIR": str(self.place.documents),
            "BACKUP_STORAGE_DIR": str(self.place.backups),
            "BACKUP_APP_NAME": APP_NAME,
            "PG_BIN_DIR": str(self.postgres.bin_dir),
            "PUBLIC_URL": self.place.url,
            "ADMIN_EMAIL": self.secrets.admin_email,
            "ADMIN_PASSWORD": self.secrets.admin_password,
        }

    # -- start --------------------------------------------------------------------------------------------------

    def start_servers(self) -> None:
        """Start PostgreSQL and Valkey and create the two databases, each with an owner that is not a superuser."""
        self.postgres.start()
        self.valkey.start()
        with psycopg.connect(self.postgres.url(), autocommit=True) as connection:
            # Restoring needs a database and a sandbox role beside the live ones; backing up needs neither right.
            make_database(connection, APP_NAME, self.secrets.app_password, "CREATEDB CREATEROLE")
            make_database(connection, METADATA_NAME, self.secrets.metadata_password, "")

    def fill(self) -> bool:
        """Create the sample app's data; return False if it already exists."""
        return fill_sample(self.settings()["BACKUP_SOURCE_URL"], self.place.documents)

    def use_admin(self, given: Mapping[str, str]) -> None:
        """Set this admin's password: the web process creates the first admin; a later start changes it here. Raise
        StackError."""
        before, self.secrets = self.secrets, replace(self.secrets, **given)
        if self.secrets == before:
            return
        with psycopg.connect(self.settings()["DATABASE_URL"]) as connection:
            emails = [row[0] for row in connection.execute("SELECT email FROM admins")]
        if emails:
            command = "password" if self.secrets.admin_email.strip().lower() in emails else "create"
            done = subprocess.run(
                [sys.executable, "-m", "flask", "admin", command, self.secrets.admin_email],
                input=f"{self.secrets.admin_password}\n",
                env=process_environment(self.settings()),
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise StackError(f"ADMIN_EMAIL and ADMIN_PASSWORD can't be used: {done.stderr.strip()}")
        write_private(self.place.secrets_file, json.dumps(vars(self.secrets), indent=2) + "\n")

    def run_flask(self, *arguments: str) -> None:
        """Run a flask command to its end. Raise StackError with its last lines if it fails."""
        name = "-".join(arguments[:2])
        log = self.place.logs / f"{name}.log"
        with log.open("wb") as output:
            self._command = launch(
                [sys.executable, "-m", "flask", *arguments],
                env=process_environment(self.settings()),
                output=output,
                cwd=ROOT,
            )
        code = self._command.wait()
        self._command = None
        if code != 0:
            raise StackError(f"`flask {' '.join(arguments)}` failed: {last_lines(log, 3)} (see {log}).")

    def start_children(self) -> None:
        """Start web, worker and scheduler and wait until the web server answers. Raise StackError if it does not."""
        for child in self.children:
            self._start(child)
        deadline = time.monotonic() + WEB_READY_SECONDS
        while not self._web_answers():
            web = self.children[0]
            log = self._log(web)
            if web.process is None or web.process.poll() is not None:
                raise StackError(f"The web server ended at once: {last_lines(log, 3)} (see {log}).")
            if time.monotonic() > deadline:
                raise StackError(f"The web server did not answer within {WEB_READY_SECONDS:.0f} s (see {log}).")
            time.sleep(0.2)

    def has_backup(self) -> bool:
        """Return whether there is a finished archive."""
        return any(self.place.backups.glob(f"{APP_NAME}_backup_*.tar.gz"))

    # -- life ---------------------------------------------------------------------------------------------------

    def watch(self) -> None:
        """Keep everything running, reporting each restart; never return, end by the caller's exception."""
        while True:
            for server, name in ((self.postgres, "PostgreSQL"), (self.valkey, "Valkey")):
                if server.pid is None:
                    self.say(f"{name} ended unexpectedly; restarting it.")
                    server.start()
                    self.say(f"{name} runs again.")
            for child in self.children:
                self._keep_running(child)
            time.sleep(0.5)

    def stop(self) -> None:
        """Stop everything, in reverse order of its start."""
        if self._command is not None:
            end(self._command, (signal.SIGTERM, 10))
        for child in reversed(self.children):
            if child.process is not None:
                end(child.process, *child.stop_steps)
                child.process = None
        self.valkey.stop()
        self.postgres.stop()

    def _start(self, child: Child) -> None:
        with self._log(child).open("ab") as output:
            child.process = launch(
                child.command,
                env=process_environment(self.settings()),
                output=output,
                death_signal=child.death_signal,
                cwd=ROOT,
            )

    def _keep_running(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is not None and (code := child.process.poll()) is not None:
            child.process = None
            child.start_again_at = now + child.pause
            self.say(
                f"The {child.name} ended with code {code}; it starts again in {child.pause:.0f} s (see {self._log(child)})."
            )
            child.pause = min(child.pause * 2, LONGEST_PAUSE)
        if child.process is None and now >= child.start_again_at:
            self._start(child)

    def _log(self, child: Child) -> Path:
        return self.place.logs / f"{child.name}.log"

    def _web_answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.place.url}/healthz", timeout=5) as answer:  # noqa: S310 - our own server
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
