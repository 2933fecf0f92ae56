"""Run pg_dump under our snapshot and pass its text on."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from uuid import UUID

from ..dump.dump_splitter import DumpSplitter, Event
from ..errors import DumpError
from ..progress import Meter
from ..source.clients import Client, client_access
from ..source.postgres import LOCK_SECONDS
from ..system.processes import PIPE_BYTES, Child, running

POLL_MILLISECONDS = 500
EXIT_SECONDS = 60
STATISTICS_SINCE = 18
"""The first major version whose pg_dump writes the planner's statistics, and whose server takes them."""


@dataclass(frozen=True)
class DumpOrder:
    """The order for one pg_dump run. `options` select a part of the database; none: all of it.

    `encoding` is the database's own, so that a role's setting can't cause values to be converted or refused.
    `with_statistics`: include the results of ANALYZE, so that a restore need not run it again. `threads`: how many cores
    the dump may use.
    """

    client: Client
    database_url: str
    snapshot_id: str
    run_id: UUID
    encoding: str
    with_statistics: bool = False
    options: tuple[str, ...] = ()
    threads: int = 1


def command(order: DumpOrder, dsn: str) -> list[str]:
    """Return the command line; the conninfo contains no password."""
    return [
        str(order.client.pg_dump),
        "--format=plain",
        "--no-password",
        f"--snapshot={order.snapshot_id}",
        f"--encoding={order.encoding}",
        f"--lock-wait-timeout={LOCK_SECONDS}s",
        *order.options,
        f"--dbname={dsn}",
    ]


@contextlib.contextmanager
def started(order: DumpOrder) -> Iterator[Child]:
    """Start an order's pg_dump and yield it."""
    with client_access(order.database_url) as access:
        with running(command(order, access.dsn), access.environment, order.run_id, access.descriptors) as child:
            yield child


def chunks(child: Child, meter: Meter) -> Iterator[bytes]:
    """Yield a child's output, in chunks of at most 1 MiB, until it closes it."""
    poll = select.poll()
    poll.register(child.stdout_fd, select.POLLIN | select.POLLHUP)
    while True:
        is_ready = poll.poll(POLL_MILLISECONDS)
        meter.tick()
        if not is_ready:
            continue
        chunk = os.read(child.stdout_fd, PIPE_BYTES)
        if not chunk:
            return
        yield chunk


def check_end(child: Child) -> list[str]:
    """Wait for a pg_dump that has closed its output and return its warnings. Raise DumpError unless it succeeded."""
    try:
        code = child.wait(EXIT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise DumpError(f"pg_dump wrote everything but did not end within {EXIT_SECONDS} s; it was killed.") from error
    messages = child.messages()
    if code != 0:
        ended = f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
        advice = ""
        if "LOCK TABLE" in messages and "timeout" in messages:
            advice = " (an ALTER, TRUNCATE or DROP is waiting for a table; end it and start the backup again)"
        if "max_locks_per_transaction" in messages:
            raise DumpError(
                "The server can't lock all tables at once (out of shared memory): set max_locks_per_transaction to at least "
                "twice its value and restart the server."
            )
        raise DumpError(f"pg_dump {ended}: {' '.join(messages.split()) or 'it gave no reason'}{advice}")
    return [f"pg_dump: {line}" for line in messages.splitlines() if line.strip()]


def dump(
    order: DumpOrder, meter: Meter, take: Callable[[Event], None], meanwhile: Callable[[], None] = lambda: None
) -> list[str]:
    """Pass each event of the dump to `take` and return pg_dump's warnings.

    `meanwhile` is called once pg_dump runs, while it reads the catalogs and writes nothing yet.
    Raise DumpError unless pg_dump exited with 0 and its text is complete to its last line.
    """
    splitter = DumpSplitter()
    with started(order) as child:
        meanwhile()
        for chunk in chunks(child, meter):
            for event in splitter.feed(chunk):
                take(event)
        warnings = check_end(child)
    for event in splitter.finish():
        take(event)
    return warnings
