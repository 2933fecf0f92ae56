"""The bench's PostgreSQL and documents, made once for each scale and kept; and timing of whole processes."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg

from app.demo.servers import EmbeddedPostgres, postgres_bin_dir
from tests.bench.dataset import fill_database, fill_documents

POSTGRES_VERSION = 18
DATABASE = "motovaultpro"


@dataclass(frozen=True)
class Timing:
    """A finished process: wall-clock seconds, peak bytes of memory of it and its children together, and what it printed."""

    seconds: float
    peak_bytes: int
    output: str


class Stage:
    """A running server with the bench's database and its documents, in a folder and at a scale."""

    def __init__(self, folder: Path, scale: float) -> None:
        self.folder = folder / f"scale-{scale:g}"
        self._scale = scale
        self.documents = self.folder / "app" / "documents"
        self.output = self.folder / "output"
        self.bin_dir = postgres_bin_dir(POSTGRES_VERSION)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.server = EmbeddedPostgres(POSTGRES_VERSION, self.folder / "postgres", password=self._password())

    def __enter__(self) -> Stage:
        self.server.start()
        self._fill()
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.output, ignore_errors=True)
        self.server.stop()

    @property
    def url(self) -> str:
        return self.server.url(DATABASE)

    def _password(self) -> str:
        """Return the superuser's password, which the cluster keeps from its first start."""
        file = self.folder / "password"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(secrets.token_urlsafe(24))
        return file.read_text()

    def _fill(self) -> None:
        ready = self.folder / "ready"
        if ready.exists():
            return
        print(f"Making the data (scale {self._scale:g}) ...", flush=True)
        shutil.rmtree(self.documents, ignore_errors=True)
        with psycopg.connect(self.server.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {DATABASE}")
            connection.execute(f"CREATE DATABASE {DATABASE}")
        with psycopg.connect(self.url) as connection:
            fill_database(connection, self._scale)
        fill_documents(self.documents, self._scale)
        ready.touch()

    def fresh_output(self) -> Path:
        """Return an empty folder for one contender's result."""
        shutil.rmtree(self.output, ignore_errors=True)
        self.output.mkdir(parents=True)
        return self.output

    def warm(self) -> None:
        """Read the data once, and write as much as a contender does, so that none pays for cold caches, or for memory that
        a virtual machine's host has to give back first, which the next one finds warm."""
        subprocess.run(f'"{self.bin_dir}/pg_dump" "{self.url}" > /dev/null', shell=True, check=True)  # noqa: S602
        copy = self.fresh_output() / "copy.tar"
        subprocess.run(["tar", "cf", copy, "-C", self.documents.parent, "documents"], check=True)
        copy.unlink()


def timed(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Timing:
    """Run a command to its end and return what it took. Raise CalledProcessError if it fails."""
    os.sync()
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
    over, peak = threading.Event(), [0]
    watcher = threading.Thread(target=_watch, args=[process.pid, over, peak])
    watcher.start()
    output, _ = process.communicate()
    seconds = time.perf_counter() - started
    over.set()
    watcher.join()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    return Timing(seconds, peak[0], output)


def _watch(pid: int, over: threading.Event, peak: list[int]) -> None:
    """Note the most memory, as proportional set size, that a process and all below it have together."""
    # Each look costs some 10 ms of a core: more of them would be measured, too.
    while not over.wait(0.5):
        total = 0
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            for process in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    total += process.memory_full_info().pss
        peak[0] = max(peak[0], total)


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
