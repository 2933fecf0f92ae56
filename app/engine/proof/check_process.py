"""The checking process: read an archive through, under limits that the kernel enforces."""

from __future__ import annotations

import contextlib
import hashlib
import math
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from ..archive.budget import limit_error
from ..archive.manifest import Manifest
from ..errors import EngineError, RestoreError
from ..progress import Meter, Progress
from ..restore.foreign_archive import ForeignArchive, Limits, drain
from ..restore.loading.load_foreign import DumpSurvey
from ..restore.request import open_origin
from ..source.documents import Document
from ..storage.interface import parts_of
from ..storage.local import LocalBlob
from ..system.processes import receive, send
from ..verify.verify import VerifyReport, verify_archive
from .check_archive import WALL_PER_CPU, WALL_SECONDS, ArchiveCheck, Failed, MoreTime, Order, Report

STACK_BYTES = 1024 * 1024
HASHED_AT_ONCE = 4 * 1024 * 1024
SIGNED_BYTES_PER_SECOND = 20 * 1000 * 1000
"""Bytes of declared unpacked size per second of CPU, for an archive signed by our key."""


def serve(descriptor: int) -> None:
    """Run the one check that is ordered through a socket, and send the result there."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sender handles Ctrl-C
    with Connection(descriptor) as connection:
        order: Order = receive(connection)
        _limit(order)
        try:
            answer: ArchiveCheck | Failed = examine(order, connection)
        except EngineError as error:
            answer = Failed(type(error).__name__, str(error))
        except MemoryError:
            refused = limit_error(f"{order.memory_bytes // 1_000_000} MB of memory")
            answer = Failed(type(refused).__name__, str(refused))
        send(connection, answer)


def _limit(order: Order) -> None:
    threading.stack_size(STACK_BYTES)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # exceeding the CPU limit would otherwise leave a core dump
    _set_soft(resource.RLIMIT_CPU, math.ceil(order.cpu_seconds))
    _set_soft(resource.RLIMIT_DATA, order.memory_bytes)


def _set_soft(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _lift_limits(manifest: Manifest, order: Order, connection: Connection) -> None:
    """Raise the limits for an archive that our key signed to what its size needs."""
    promised = manifest.database.sql_bytes + manifest.documents.bytes + manifest.documents.index_bytes
    seconds = order.cpu_seconds + promised / SIGNED_BYTES_PER_SECOND
    _set_soft(resource.RLIMIT_CPU, math.ceil(seconds))
    resource.setrlimit(resource.RLIMIT_DATA, (resource.getrlimit(resource.RLIMIT_DATA)[1],) * 2)
    send(connection, MoreTime(WALL_SECONDS + WALL_PER_CPU * seconds))


def examine(order: Order, connection: Connection) -> ArchiveCheck:
    """Read an archive through and return what it is. Damage is a problem in the result."""

    def progress(phase: str, done: int, total: int | None) -> None:
        send(connection, Report(phase, done, total))

    origin = open_origin(order.path, order.signing_key)
    origin.close()
    if origin.reader is None:
        return check_foreign(order.path, progress, order.unpacking)
    if origin.signed:
        _lift_limits(origin.reader.manifest, order, connection)
    return _check_ours(verify_archive(order.path, order.signing_key, progress))


def _check_ours(report: VerifyReport) -> ArchiveCheck:
    manifest = report.manifest
    return ArchiveCheck(
        problems=report.problems,
        ours=True,
        signed=report.signed,
        manifest=manifest,
        sha256=report.sha256,
        size_bytes=report.size_bytes,
        tables=len(manifest.tables) if manifest else None,
        documents=manifest.documents.files if manifest else None,
        app=manifest.app if manifest else None,
        rows=sum(table.rows for table in manifest.tables) if manifest else None,
        documents_bytes=manifest.documents.bytes if manifest else None,
        server_version=manifest.server_version if manifest else "",
    )


def check_foreign(path: Path, progress: Progress | None, limits: Limits) -> ArchiveCheck:
    """Read an archive of another program through, in its own order."""
    meter = Meter(progress)
    meter.phase("verify", path.stat().st_size)
    survey, names, files, files_bytes = DumpSurvey(), [], 0, 0

    def on_document(entry: Document, content: Iterator[bytes]) -> None:
        nonlocal files, files_bytes
        files += entry.kind == "file"
        files_bytes += entry.size if entry.kind == "file" else 0
        drain(content)

    def on_dump(name: str, text: Iterator[bytes]) -> None:
        names.append(name)
        survey.read(text)

    problems: list[str] = []
    try:
        with ForeignArchive(path, limits, meter.add) as archive:
            archive.walk(on_document, on_dump)
        if not names and not files:
            raise RestoreError("The archive contains neither a dump (database/NAME.sql.gz) nor documents (documents/…).")
    except EngineError as error:
        problems.append(str(error))
    sha256, size = _hash(path, meter.tick)
    app = names[0].removesuffix(".gz").removesuffix(".sql") if names else None
    return ArchiveCheck(
        problems=problems,
        ours=False,
        signed=False,
        manifest=None,
        sha256=sha256,
        size_bytes=size,
        tables=len(survey.rows),
        documents=files,
        app=app,
        rows=sum(survey.rows.values()),
        documents_bytes=files_bytes,
        server_version=str(survey.version or ""),
    )


def _hash(path: Path, tick: Callable[[], None]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with contextlib.closing(LocalBlob(path)) as blob:
        for part in parts_of(blob, HASHED_AT_ONCE):
            digest.update(part)
            size += len(part)
            tick()
    return digest.hexdigest(), size
