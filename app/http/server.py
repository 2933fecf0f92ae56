"""Gunicorn's threaded worker with deadlines for slow clients. gunicorn.conf.py names it.

Plain gthread has one thread per request in progress, `--threads` of them, and a thread waits for its client without a limit:
sixteen silent connections stop everything. Here `--threads` is the number of requests that the app works on at once (see
app.turns). Reading from clients and sending to them happens outside of that, under deadlines, in many more threads. When
even those run short, the client that has kept its thread waiting longest is disconnected.

Checked against gunicorn 27.0.1: TConn, ThreadWorker.accept, .handle, .handle_request, .finish_request, .get_thread_pool.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Iterable, MutableMapping
from concurrent import futures
from contextlib import suppress
from typing import Any, BinaryIO, cast

from gunicorn import util
from gunicorn.workers.gthread import TConn, ThreadWorker

from app import turns

# Sleeping threads cost little. compose.yaml's pids_limit must allow this many in each process.
MOST_THREADS = 200
# From this many connections in progress, each new one disconnects the one that has waited for its client longest.
CROWDED = 150
# Deadlines for a request's head and for its body, unless it is an upload.
HEAD_SECONDS = 20.0
BODY_SECONDS = 30.0
# How long a response or an upload may wait for its client: this, plus a second for every BYTES_PER_SECOND transferred.
GRACE_SECONDS = 60.0
BYTES_PER_SECOND = 1024
# A connection that has transferred more is a download or an upload, which is not disconnected for new ones.
SMALL_BYTES = 1 << 20
SEND_BYTES = 1 << 20


class ClientSocket(socket.socket):
    """A client's connection whose reads and writes raise ClientTooSlow instead of waiting forever.

    Reads end at `deadline` (time.monotonic) while one is set; everything else has an allowance of time that grows with the
    bytes transferred.
    """

    def __init__(self, plain: socket.socket) -> None:
        super().__init__(plain.family, plain.type, plain.proto, fileno=plain.detach())
        self.deadline: float | None = None
        self.waiting_since: float | None = None
        self.moved = 0
        self._waited = 0.0

    def begin(self, seconds: float) -> None:
        """Give the next reads `seconds` in total."""
        self.deadline = time.monotonic() + seconds
        self._waited, self.moved = 0.0, 0

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return at most `size` bytes that the client has sent; empty at the end."""
        if self.gettimeout() is not None:
            return super().recv(size, flags)
        while True:
            try:
                data = super().recv(size, flags | socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait(select.POLLIN)
            else:
                self.moved += len(data)
                return data

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of the data."""
        if self.gettimeout() is not None:
            super().sendall(data, flags)
            return
        view = memoryview(data).cast("B")
        while view:
            try:
                sent = self.send(view, flags | socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait(select.POLLOUT)
            else:
                self.moved += sent
                view = view[sent:]

    def sendfile(self, file: BinaryIO, offset: int = 0, count: int | None = None) -> int:  # type: ignore[override]
        """Send `count` bytes of a file from `offset`, by default to the end of the file. Return the number sent."""
        total = 0
        self.setblocking(False)
        try:
            while count is None or total < count:
                size = SEND_BYTES if count is None else min(SEND_BYTES, count - total)
                try:
                    sent = os.sendfile(self.fileno(), file.fileno(), offset + total, size)
                except BlockingIOError:
                    self._wait(select.POLLOUT)
                    continue
                if sent == 0:
                    break
                total += sent
                self.moved += sent
        finally:
            with suppress(OSError):
                self.setblocking(True)
        return total

    def _wait(self, event: int) -> None:
        began = self.waiting_since = time.monotonic()
        left = GRACE_SECONDS + self.moved / BYTES_PER_SECOND - self._waited
        if event == select.POLLIN and self.deadline is not None:
            left = self.deadline - began
        try:
            poll = select.poll()
            poll.register(self.fileno(), event)
            with turns.waiting():
                ready = left > 0 and poll.poll(left * 1000)
        finally:
            self._waited += time.monotonic() - began
            self.waiting_since = None
        if not ready:
            raise turns.ClientTooSlow


class Connection(TConn):
    """A client's connection."""

    sock: ClientSocket

    def __init__(self, cfg: Any, sock: ClientSocket, client: Any, server: Any) -> None:
        super().__init__(cfg, sock, client, server)
        # The deadline replaces gunicorn's own wait for the first byte.
        self.data_ready = True
        self.is_upload = False

    @property
    def is_small(self) -> bool:
        """Whether it has transferred only pages, forms and the like so far."""
        return not self.is_upload and self.sock.moved <= SMALL_BYTES

    def expect_long_body(self) -> None:
        """Lift the deadline for an upload: only a stall ends it."""
        self.is_upload = True
        self.sock.deadline = None

    def close(self, graceful: bool = False) -> None:  # noqa: ARG002 - gunicorn's signature
        """Close at once. Closing gracefully may take two seconds: `handle` has done that in its thread, since the main loop
        calls this, and could accept no connection meanwhile."""
        util.close(self.sock)


class Worker(ThreadWorker):
    """The worker that gunicorn runs."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._turns = turns.Turns(self.cfg.threads)
        self._in_progress: set[Connection] = set()

    def get_thread_pool(self) -> futures.ThreadPoolExecutor:
        """Return the pool of threads that read, run the app and send."""
        return futures.ThreadPoolExecutor(max_workers=max(MOST_THREADS, self.cfg.threads))

    def load_wsgi(self) -> None:
        """Load the app, and make each call of it take a turn; its response is sent without one."""
        super().load_wsgi()
        app = self.wsgi

        def take_turn(environ: MutableMapping[str, Any], start_response: Any) -> Iterable[bytes]:
            with self._turns.taken():
                answer: Iterable[bytes] = app(environ, start_response)
            return answer

        self.wsgi = take_turn

    def accept(self, listener: socket.socket) -> None:
        """Accept a new connection."""
        try:
            plain, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        self._make_room()
        self.enqueue_req(Connection(self.cfg, ClientSocket(plain), address, listener.getsockname()))

    def enqueue_req(self, conn: TConn) -> None:
        """Let a thread handle a connection's next request."""
        self._in_progress.add(_ours(conn))
        super().enqueue_req(conn)

    def finish_request(self, conn: TConn, fs: futures.Future[Any]) -> None:
        """Keep the connection for its next request, or close it."""
        self._in_progress.discard(_ours(conn))
        super().finish_request(conn, fs)

    def handle(self, conn: TConn) -> bool:
        """Read a request and answer it. Runs in a thread."""
        ours = _ours(conn)
        ours.is_upload = False
        ours.sock.begin(HEAD_SECONDS)
        keep = super().handle(conn)
        if not keep:
            util.close_graceful(conn.sock)
        return keep

    def handle_request(self, req: Any, conn: TConn) -> Any:
        """Answer a request whose head has been read."""
        ours = _ours(conn)
        ours.sock.begin(BODY_SECONDS)
        with turns.with_patience(ours.expect_long_body):
            return super().handle_request(req, conn)

    def _make_room(self) -> None:
        if len(self._in_progress) < CROWDED:
            return
        waiting = [(conn.sock.waiting_since, conn) for conn in self._in_progress if conn.is_small]
        oldest = min(((since, conn) for since, conn in waiting if since is not None), key=lambda pair: pair[0], default=None)
        if oldest is not None:
            self._in_progress.discard(oldest[1])
            with suppress(OSError):
                oldest[1].sock.shutdown(socket.SHUT_RDWR)


def _ours(conn: TConn) -> Connection:
    """Return a connection as what `accept` made it: gunicorn's own signatures know only its base class."""
    return cast(Connection, conn)
