"""What a power cut leaves: a filesystem of its own for the server's data and the app's folders, copied below its page cache.

A loop-mounted ext4 whose journal is committed only by fsync and syncfs. Its image has what the kernel has written by then: a
file or a name that nobody synced is not in it, nor is the WAL that the server still had in its memory. All processes stand
still while it is copied; afterwards the copy is mounted in the place of the filesystem, as after a power cut and a reboot.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from app.demo.servers import EmbeddedPostgres

LAZY_WAL = {
    "shared_buffers": "32MB",
    "synchronous_commit": "off",
    "wal_writer_delay": "10s",
    "wal_writer_flush_after": "1GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
}
"""Settings of a server that waits as long as it may before it writes its WAL: what nobody flushes is lost for certain."""


class Disk:
    """A mounted filesystem whose image can be copied and exchanged for a copy."""

    def __init__(self, folder: Path, megabytes: int = 600) -> None:
        self.place = folder / "disk"
        self._folder = folder
        self._image = folder / "0.image"
        self._copies = 0
        self._megabytes = megabytes

    def __enter__(self) -> Disk:
        self.place.mkdir()
        with self._image.open("wb") as file:
            file.truncate(self._megabytes << 20)
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,nodiscard", str(self._image))
        self._mount(self._image)
        self.place.chmod(0o755)
        return self

    def __exit__(self, *_: object) -> None:
        self._unmount()

    def _mount(self, image: Path) -> None:
        _run("mount", "-o", "loop,commit=3600,noatime", str(image), str(self.place))

    def _unmount(self) -> None:
        for _ in range(100):
            if subprocess.run(["umount", self.place], capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        _run("umount", "-l", str(self.place))

    def sync(self) -> None:
        """Make all that was written so far durable."""
        fd = os.open(self.place, os.O_RDONLY)
        try:
            assert ctypes.CDLL(None, use_errno=True).syncfs(fd) == 0
        finally:
            os.close(fd)

    def copy(self) -> Path:
        """Copy what a power cut would leave now. Whoever writes to the filesystem has to stand still."""
        return self.duplicate(self._image)

    def duplicate(self, copy: Path) -> Path:
        """Copy a copy, so that it can be used twice."""
        self._copies += 1
        another = self._folder / f"{self._copies}.image"
        _run("cp", "--sparse=always", str(copy), str(another))
        return another

    def replace(self, copy: Path) -> None:
        """Mount a copy in the place of the filesystem, which nobody may use any more; the copy is used up."""
        self._unmount()
        self._image.unlink()
        copy.rename(self._image)
        self._mount(self._image)


class Machine:
    """A disk and a PostgreSQL server on it, both of which lose power together."""

    def __init__(self, folder: Path) -> None:
        self.disk = Disk(folder)
        self._socket_dir = folder / "socket"
        self.server: EmbeddedPostgres

    def __enter__(self) -> Machine:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.disk)
            data = self.disk.place / "postgres"
            self.server = EmbeddedPostgres(18, data, durable=True, socket_dir=self._socket_dir, settings=LAZY_WAL)
            stack.callback(lambda: self.server.crash())
            self.server.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def picture(self, *others: int) -> Path:
        """Let the server and other processes stand still, and copy what a power cut at this moment would leave."""
        with standing_still([*_server_processes(self.server), *others]):
            return self.disk.copy()

    def power_cut(self, picture: Path) -> None:
        """Let it be as it is after a power cut at the moment of a picture, and start the server."""
        self.server.crash()
        self.disk.replace(picture)
        self.server.start()


def _server_processes(server: EmbeddedPostgres) -> Iterator[int]:
    assert server.pid is not None
    yield server.pid  # stopped first, it starts no more sessions
    for process in psutil.Process(server.pid).children(recursive=True):
        yield process.pid


@contextmanager
def standing_still(pids: Iterable[int]) -> Iterator[None]:
    """Stop processes, each when it has left the kernel, for as long as the block runs."""
    stopped = []
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
                while psutil.Process(pid).status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
                    time.sleep(0.001)
        yield
    finally:
        for pid in reversed(stopped):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def needs_loop_devices() -> pytest.MarkDecorator:
    """Return the mark that skips where no filesystem can be mounted from a file."""
    can = os.geteuid() == 0 and Path("/dev/loop-control").exists() and shutil.which("mkfs.ext4") is not None
    return pytest.mark.skipif(not can, reason="needs root and loop devices, to mount a filesystem of its own")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[0]} failed: {done.stderr}"
