"""What runs: processes of a test session, alive or gone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import psutil

SESSION_VARIABLE = "MVP_TEST_SESSION"


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie, which only waits to be reaped, does not."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Return True as soon as a condition holds, False if it does not within that time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def wait_until_gone(pid: int, seconds: float = 10.0) -> bool:
    """Return whether a process ends within that time."""
    return wait_until(lambda: not is_alive(pid), seconds)


def processes_with(variable: str, value: str) -> list[psutil.Process]:
    """Return the live processes, other than us, that were started with that value of an environment variable."""
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(variable) == value
        except (psutil.Error, OSError):
            continue
        if marked and process.pid != os.getpid() and is_alive(process.pid):
            found.append(process)
    return found


def left_over(session: str, seconds: float = 5.0) -> list[str]:
    """Return what still runs of a marked session after that time: command lines with process ids."""

    def remaining() -> dict[int, psutil.Process]:
        children = [child for child in psutil.Process().children(recursive=True) if is_alive(child.pid)]
        return {process.pid: process for process in (*children, *processes_with(SESSION_VARIABLE, session))}

    wait_until(lambda: not remaining(), seconds)
    described = []
    for process in remaining().values():
        try:
            described.append(f"{process.pid}: {' '.join(process.cmdline())}")
        except psutil.Error:
            continue
    return described
