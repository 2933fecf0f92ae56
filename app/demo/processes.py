"""Start and end the child processes of the demo and of the tests; they end with us."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

LAUNCHER = Path(__file__).with_name("launcher.py")
RESERVED_PORTS = {5432, 6379, 8000}


class StackError(Exception):
    """An embedded server or a process of the demo can't do its work; str() is one sentence that says what to do."""


def launch(  # noqa: PLR0913 - all by name
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    output: IO[bytes] | int | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
    user: tuple[int, int] | None = None,
    needs: Sequence[Path] = (),
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; it gets `death_signal` when we end.

    The kernel watches the calling thread, so call this from one that lives as long as the process (the main one).
    `user` is (uid, gid) to run under, `needs` the paths that this user must be able to reach.
    """
    prefix: list[str] = [sys.executable, "-I", "-S", str(LAUNCHER), "--parent", str(os.getpid())]
    prefix += ["--death-signal", str(int(death_signal))]
    if user is not None:
        prefix += ["--user", f"{user[0]}:{user[1]}"]
    for path in needs:
        prefix += ["--needs", str(path)]
    return subprocess.Popen(
        [*prefix, "--", *map(str, command)],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        start_new_session=True,
        cwd=cwd,
    )


def end(process: subprocess.Popen[bytes], *steps: tuple[signal.Signals, float]) -> int:
    """Send signals, waiting the given seconds after each, until the process ends; SIGKILL is the last.

    Return the exit code (negative: the signal that ended it).
    """
    for step, seconds in steps:
        if process.poll() is not None:
            break
        process.send_signal(step)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    if process.poll() is None:
        process.kill()
    return process.wait()


def free_port() -> int:
    """Return a TCP port that is free on the loopback now; never one of the well-known ones of our servers."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in RESERVED_PORTS:
            return port


def private_folder(path: Path, owner: tuple[int, int] | None = None) -> Path:
    """Create a folder with mode 0700 (of that owner, if given) and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if owner is not None:
        os.chown(path, *owner)
    path.chmod(0o700)
    return path


def last_lines(log: Path, count: int = 5) -> str:
    """Return a log file's last lines, joined into one for an error message."""
    if not log.exists():
        return ""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return " | ".join(line.strip() for line in lines[-count:] if line.strip())
