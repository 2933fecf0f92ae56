"""Start child processes: in their own group, killed with their parent, without visible secrets."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from ..errors import DumpError

RUN_ID_VARIABLE = "MVP_BACKUP_RUN_ID"
"""Marks every child with the run that it serves, so that a lost worker's child can be found."""

_PR_SET_PDEATHSIG = 1
_F_SETPIPE_SZ = 1031
PIPE_BYTES = 1024 * 1024
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(parent: int) -> None:
    """Ask Linux to kill this child when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG)."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


class Child:
    """A running child whose standard output we read and whose messages are kept aside."""

    def __init__(self, process: subprocess.Popen[bytes], messages: IO[bytes], name: str) -> None:
        self._process = process
        self._messages = messages
        self.name = name
        assert process.stdout is not None
        self.stdout_fd = process.stdout.fileno()
        if sys.platform == "linux":
            import fcntl  # noqa: PLC0415 - only where pipes are made larger

            with contextlib.suppress(OSError):  # an unprivileged user may have used up its pipe pages
                fcntl.fcntl(self.stdout_fd, _F_SETPIPE_SZ, PIPE_BYTES)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; negative for the signal that ended the child."""
        return self._process.wait(timeout)

    def messages(self, limit: int = 4000) -> str:
        """Return the end of the child's standard error, at most `limit` bytes."""
        self._messages.seek(0, os.SEEK_END)
        size = self._messages.tell()
        self._messages.seek(max(0, size - limit))
        return self._messages.read().decode("utf-8", "replace").strip()

    def kill(self) -> None:
        """Kill the child's whole group at once and reap it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill the child if it still runs, and release its files."""
        if self._process.poll() is None:
            self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._messages.close()


@contextlib.contextmanager
def running(
    command: Sequence[str], environment: Mapping[str, str], run_id: UUID, descriptors: Sequence[int] = ()
) -> Iterator[Child]:
    """Run a command with exactly `environment` for the duration of the block; it is killed and reaped afterwards.

    It inherits only the given file descriptors.

    Must be called from a thread that outlives the child: Linux delivers the parent-death signal when that thread ends.
    Raise DumpError if the command can't be started.
    """
    parent = os.getpid()
    messages = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=messages,
            env={**environment, RUN_ID_VARIABLE: str(run_id)},
            pass_fds=descriptors,
            process_group=0,
            preexec_fn=lambda: die_with_parent(parent),  # noqa: PLW1509 - only system calls; nothing that takes a lock
            bufsize=0,
        )
    except (OSError, subprocess.SubprocessError) as error:
        messages.close()
        raise DumpError(f"{command[0]} could not be started: {error}") from error
    child = Child(process, messages, Path(command[0]).name)
    try:
        yield child
    finally:
        child.close()


_PASSED_ON = ("LD_LIBRARY_PATH", "PYTHONHOME", "TMPDIR")


def engine_process(module: str, call: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment of a new interpreter that imports `call`'s function from an engine module, such
    as "backup.packers", and calls it.

    It is a new process, not a fork: this one has threads, whose locks a fork would copy in their present state.
    """
    root = Path(__file__).resolve().parents[3]
    start = (
        f"import sys; sys.path.insert(0, {str(root)!r}); from app.engine.{module} import {call.partition('(')[0]}; {call}"
    )
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return [sys.executable, "-X", "utf8", "-c", start], environment


def send(connection: Connection, value: object) -> None:
    """Send a value to another process of ours. Raise OSError if it is gone.

    Not by the connection's own `send`, which passes on a view of a BytesIO: where it fails, the error's traceback keeps that
    view, and once the collector finds both in a cycle it may close the BytesIO first, which Python 3.13 reports as a
    BufferError wherever the program happens to be.
    """
    connection.send_bytes(pickle.dumps(value))


def receive(connection: Connection) -> Any:
    """Return the next value from another process of ours. Raise EOFError or OSError if it is gone."""
    return pickle.loads(connection.recv_bytes())  # noqa: S301 - sent by our own child, over a pipe


def kill_orphans(run_id: UUID) -> int:
    """Kill the children of a run whose worker is gone, on this host, and return their number.

    They are found by the mark in their environment, so only on Linux and only among this user's processes.
    """
    mark = f"{RUN_ID_VARIABLE}={run_id}".encode()
    killed = 0
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
    return killed
