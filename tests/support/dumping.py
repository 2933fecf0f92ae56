"""What the tests of the dump share: unpacking with the usual tools, comparing databases, watching pg_dump."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import psutil
import psycopg

from app.demo.servers import EmbeddedPostgres
from app.engine.system.processes import RUN_ID_VARIABLE
from tests.support.databases import fresh_database, psql, run_client
from tests.support.processes import is_alive, processes_with, wait_until

_RESTRICT = re.compile(rb"^\\(?:un)?restrict [A-Za-z0-9]{20,}$\n", re.MULTILINE)


def unpack(archive: Path, into: Path) -> Path:
    """Extract an archive with plain tar and return the folder."""
    into.mkdir()
    subprocess.run(["tar", "xzf", archive, "-C", into], check=True)
    return into


def zcat(archive: Path, into: Path) -> bytes:
    """Return an archive's SQL, by tar and gzip."""
    (dump,) = (unpack(archive, into) / "database").iterdir()
    return subprocess.run(["gzip", "-dc", dump], check=True, stdout=subprocess.PIPE).stdout


def without_keys(text: bytes) -> bytes:
    r"""Return a dump without pg_dump's own \restrict lines, whose key is random."""
    return _RESTRICT.sub(b"", text)


def dumped(bin_dir: Path, url: str, *options: str) -> bytes:
    """Return pg_dump's text of a database with a fixed key."""
    return run_client(bin_dir, "pg_dump", "--restrict-key=fixed", *options, "-d", url).stdout


def restored(server: EmbeddedPostgres, text: bytes) -> bytes:
    """Load SQL with psql into an empty database, stopping at any error, and return pg_dump's text of that."""
    with fresh_database(server) as url:
        psql(server.bin_dir, url, text)
        return dumped(server.bin_dir, url)


def dumpers(run_id: UUID) -> list[psutil.Process]:
    """Return a run's pg_dump processes that are still alive."""
    return processes_with(RUN_ID_VARIABLE, str(run_id))


def children_named(name: str) -> list[psutil.Process]:
    """Return our own live children of that program name."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if child.name() == name and is_alive(child.pid):
                found.append(child)
        except psutil.Error:
            continue
    return found


@contextmanager
def in_background(work: Callable[[], None]) -> Iterator[threading.Thread]:
    """Do `work` in a thread beside the block; what it raises fails the test after the block."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # passed on below
            errors.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    yield thread
    thread.join(60)
    assert not thread.is_alive(), "the work in the background did not end"
    if errors:
        raise errors[0]


def once_waiting(url: str, seconds: float = 10.0) -> bool:
    """Return True once a session of a database waits for a lock."""
    with psycopg.connect(url, autocommit=True) as connection:
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        return wait_until(lambda: (connection.execute(query).fetchone() or (0,))[0] > 0, seconds)
