"""Check every byte of an archive from elsewhere, without executing any of it, before it is listed.

The check runs in a process of its own, which the kernel kills when its CPU time is used up, and to which it refuses memory
beyond a limit: whatever an archive contains, it costs no more than that.
"""

from __future__ import annotations

import signal
import socket
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import uuid4

from .. import errors
from ..archive.budget import cpu_seconds_for, limit_error
from ..archive.manifest import Manifest
from ..errors import ArchiveError, EngineError
from ..progress import Progress
from ..restore.foreign_archive import Limits
from ..system.processes import Child, engine_process, receive, running, send

MEMORY_BYTES = 240 * 1024 * 1024
WALL_SECONDS = 60.0
WALL_PER_CPU = 10
REPORT_SECONDS = 0.5


@dataclass(frozen=True)
class CheckLimits:
    """The limits of an archive's check.

    `cpu_seconds` None: 18 s for up to 100 MB, and 18 s more for each further 100 MB; `wall_seconds` None: ten times that and
    a minute. `memory_bytes` bounds what the checking process may allocate. An archive that our key signed gets as much as
    its manifest says it needs.
    """

    cpu_seconds: float | None = None
    wall_seconds: float | None = None
    memory_bytes: int = MEMORY_BYTES
    unpacking: Limits = field(default_factory=Limits)

    def cpu_for(self, size_bytes: int) -> float:
        """Return the CPU seconds for an archive of that size."""
        return cpu_seconds_for(size_bytes) if self.cpu_seconds is None else self.cpu_seconds

    def wall_for(self, size_bytes: int) -> float:
        """Return the wall-clock seconds for an archive of that size."""
        return WALL_SECONDS + WALL_PER_CPU * self.cpu_for(size_bytes) if self.wall_seconds is None else self.wall_seconds


@dataclass(frozen=True)
class ArchiveCheck:
    """The result of a check. `ours`: format 1; `signed`: by our key; counts if they are known."""

    problems: list[str]
    ours: bool
    signed: bool
    manifest: Manifest | None
    sha256: str
    size_bytes: int
    tables: int | None
    documents: int | None
    app: str | None
    rows: int | None = None
    documents_bytes: int | None = None
    server_version: str = ""

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Order:
    """The order for the checking process. CPU time in seconds, memory in bytes."""

    path: Path
    signing_key: bytes
    cpu_seconds: float
    memory_bytes: int
    unpacking: Limits


@dataclass(frozen=True)
class Report:
    """The checking process's progress, as a Progress function receives it."""

    phase: str
    done: int
    total: int | None


@dataclass(frozen=True)
class MoreTime:
    """The archive is signed by us, so its check may take that many wall-clock seconds."""

    wall_seconds: float


@dataclass(frozen=True)
class Failed:
    """The check could not be completed: the name of an error of the engine, and its message."""

    error: str
    message: str


def check_archive(
    path: Path, signing_key: bytes, progress: Progress | None = None, limits: CheckLimits | None = None
) -> ArchiveCheck:
    """Check all of an archive: ours by its manifest, any other by reading it through.

    Damage is a problem in the result. What `progress` raises ends the check at once. Raise ArchiveError if the file can't
    be opened, ArchiveLimitError if the check takes more than `limits` allow. Must be called by a thread that outlives the
    check.
    """
    limits = limits or CheckLimits()
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ArchiveError(f"The archive {path.name} can't be opened: {error.strerror}.") from error
    order = Order(path.absolute(), signing_key, limits.cpu_for(size), limits.memory_bytes, limits.unpacking)
    mine, its = socket.socketpair()
    with Connection(mine.detach()) as connection, its:
        command, environment = engine_process("proof.check_process", f"serve({its.fileno()})")
        with running(command, environment, uuid4(), [its.fileno()]) as child:
            its.close()
            return _answer(connection, child, order, limits.wall_for(size), progress)


def _answer(
    connection: Connection, child: Child, order: Order, wall_seconds: float, progress: Progress | None
) -> ArchiveCheck:
    began, last = time.monotonic(), Report("verify", 0, None)
    try:
        send(connection, order)
        while True:
            if connection.poll(REPORT_SECONDS):
                match receive(connection):
                    case ArchiveCheck() as found:
                        return found
                    case Report() as last:
                        pass
                    case MoreTime() as more:
                        wall_seconds = max(wall_seconds, more.wall_seconds)
                    case Failed() as failed:
                        kind = getattr(errors, failed.error, EngineError)
                        raise kind(failed.message)
            if time.monotonic() - began > wall_seconds:
                raise limit_error(f"{wall_seconds:.0f} seconds")
            if progress is not None:
                progress(last.phase, last.done, last.total)
    except (EOFError, OSError) as error:
        raise _lost(child, order) from error


def _lost(child: Child, order: Order) -> EngineError:
    """Return why the checking process ended."""
    code = child.wait()
    if code == -signal.SIGXCPU:
        return limit_error(f"{order.cpu_seconds:.0f} seconds of CPU time")
    if code == -signal.SIGKILL:  # the kernel's out-of-memory killer
        return limit_error("the memory that this machine has left")
    said = child.messages().rpartition("\n")[2]
    return EngineError(f"The check of the archive broke off ({said or f'exit code {code}'}); start it again.")
