"""A real web process on the servers of a test."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence

import psutil
import pytest
from apiflask import APIFlask

from tests.support.application import ROOT, Processes, wait_for

SMALL = (
    *("gunicorn", "wsgi:app", "--bind", "0.0.0.0:8000", "--workers", "1", "--threads", "4", "--no-control-socket"),
    # A line that is too long is refused by the app itself.
    *("--limit-request-line", "0"),
)


class Web:
    """A web process of its own on a free port of this machine; the command binds to 0.0.0.0:8000 where that port goes."""

    def __init__(self, processes: Processes, command: Sequence[str] = SMALL) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        words = [f"127.0.0.1:{self.port}" if word == "0.0.0.0:8000" else word for word in command]
        self.process = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=ROOT, env=processes.environment, start_new_session=True
        )
        wait_for(self.answers)

    def answers(self) -> bool:
        """Return whether /healthz says that all is well."""
        try:
            connection = self.connection(timeout=5)
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def connection(self, timeout: float = 60) -> http.client.HTTPConnection:
        """Return a connection that is not open yet."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def family(self) -> list[psutil.Process]:
        """Return its processes, the first one last."""
        leader = psutil.Process(self.process.pid)
        return [*leader.children(recursive=True), leader]

    def memory(self) -> int:
        """Return the resident bytes of its largest process."""
        return max(process.memory_info().rss for process in self.family())

    def kill(self) -> None:
        """Kill its processes with SIGKILL."""
        family = self.family()
        for process in family:
            process.kill()
        self.process.wait(10)
        psutil.wait_procs(family, timeout=10)

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(20)


@pytest.fixture
def web(app: APIFlask, processes: Processes) -> Iterator[Web]:
    """A real web process on the test's servers."""
    served = Web(processes)
    yield served
    served.stop()
