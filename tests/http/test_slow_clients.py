"""Clients that are slow on purpose, against the web process as the image starts it."""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from apiflask import APIFlask

from app.models import BackupHistory
from app.services.people import admins
from tests.support.application import EMAIL, PASSWORD, TESTER, Processes, make_sparse
from tests.support.compose import image_command
from tests.support.web_server import Web

CROWD = 64
FORM = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
Send = Callable[[socket.socket], None]


class ImageWeb(Web):
    """The image's own command on a free port of this machine."""

    def __init__(self, processes: Processes) -> None:
        super().__init__(processes, image_command())

    def healthz(self) -> float | None:
        """Return how many seconds /healthz took, or None if it did not answer."""
        began = time.monotonic()
        return time.monotonic() - began if self.answers() else None

    def sign_in(self, email: str = EMAIL, password: str = PASSWORD) -> int:
        """Sign in as a browser does; return the status."""
        connection = self.connection()
        connection.request("GET", "/login")
        page = connection.getresponse()
        cookie = (page.getheader("Set-Cookie") or "").partition(";")[0]
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.read().decode())
        assert found
        form = urlencode({"email": email, "password": password, "csrf_token": found[1]})
        headers = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/login", form, headers)
        return connection.getresponse().status

    def memory(self) -> int:
        """Return the bytes that the whole family holds."""
        return sum(process.memory_full_info().uss for process in self.family())

    def stop(self) -> None:
        """End it at once: its clients are slow to leave."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


@pytest.fixture
def web(app: APIFlask, processes: Processes) -> Iterator[ImageWeb]:
    """A real web process on the test's servers, with an admin."""
    admins.create(TESTER, EMAIL, PASSWORD)
    served = ImageWeb(processes)
    yield served
    served.stop()


def crowd(web: ImageWeb, send: Send, number: int = CROWD) -> list[socket.socket]:
    """Open so many connections that send something and then are silent, with a small window to receive in."""
    made = []
    for _ in range(number):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", web.port))
        send(client)
        made.append(client)
    return made


def heads(client: socket.socket) -> None:
    client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")


def bodies(client: socket.socket) -> None:
    client.sendall(FORM + b"Content-Length: 900\r\n\r\nemail=")


def chunks(client: socket.socket) -> None:
    client.sendall(FORM + b"Transfer-Encoding: chunked\r\n\r\n6\r\nemail=\r\n")


def static(client: socket.socket) -> None:
    client.sendall(b"GET /bootstrap/static/css/bootstrap.min.css HTTP/1.1\r\nHost: x\r\n\r\n" * 20)


@pytest.mark.heavy
def test_the_web_answers_while_crowds_of_slow_clients_hang_on(
    web: ImageWeb, make_row: Callable[..., BackupHistory], token: Callable[..., dict[str, str]], storage_dir: Path
) -> None:
    row = make_row(size_bytes=200_000_000)
    make_sparse(storage_dir / str(row.filename), 200_000_000)
    bearer = token("backup")["Authorization"]
    path = f"/api/admin/backups/{row.id}/download"

    def downloads(client: socket.socket) -> None:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\n\r\n".encode())

    def uploads(client: socket.socket) -> None:
        head = f"POST /api/admin/backups/upload HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\n"
        client.sendall(f"{head}Content-Type: application/gzip\r\nContent-Length: 5000000\r\n\r\nx".encode())

    waiting = []
    for send in (heads, bodies, chunks, static, downloads, uploads):
        waiting += crowd(web, send)
        # Each crowd gets everywhere that it can.
        time.sleep(1)
        times = [web.healthz() for _ in range(5)]
        answered = [seconds for seconds in times if seconds is not None]
        assert len(answered) == len(times), send.__name__
        assert min(answered) < 1, (send.__name__, times)
        assert web.sign_in() == 302, send.__name__
    for client in waiting:
        client.close()


@pytest.mark.heavy
def test_a_small_body_that_does_not_arrive_is_answered_and_a_head_is_cut_off(web: ImageWeb) -> None:
    [body], [head] = crowd(web, bodies, 1), crowd(web, heads, 1)
    body.settimeout(90)
    head.settimeout(90)
    assert body.recv(4096).startswith(b"HTTP/1.1 408 ")
    assert head.recv(4096) == b""


@pytest.mark.heavy
def test_many_at_once_at_the_login_page_take_little_memory(web: ImageWeb) -> None:
    statuses: list[int] = []
    before, most = web.memory(), 0
    people = [threading.Thread(target=lambda: statuses.append(web.sign_in(password="wrong"))) for _ in range(24)]
    for person in people:
        person.start()
    while any(person.is_alive() for person in people):
        most = max(most, web.memory())
        time.sleep(0.01)
    assert len(statuses) == 24
    assert set(statuses) <= {401, 429}
    assert most - before < 250_000_000
