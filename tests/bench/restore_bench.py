"""The restore rows: ours against `tar xzf` + `zcat | psql` and against `pg_restore -j`, and what the app notices of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.bench.stage import DATABASE, Stage, Timing, timed

MB = 1_000_000
SCRATCH = "bench_scratch"
CLIENTS = 8
SCRIPT = (
    'set -o pipefail; mkdir "$OUT/x" && tar xzf "$ARCHIVE" -C "$OUT/x" && '
    'zcat "$OUT"/x/database/*.sql.gz | "$BIN/psql" -X -q -v ON_ERROR_STOP=1 "$URL" > /dev/null'
)
PG_RESTORE = '"$BIN/pg_restore" -j2 -d "$URL" "$DUMP"'


@dataclass
class Figures:
    """What the runs showed, in seconds and bytes."""

    ours: list[float] = field(default_factory=list)
    ours_database: list[float] = field(default_factory=list)
    script: list[float] = field(default_factory=list)
    pg_restore: list[float] = field(default_factory=list)
    preview: list[float] = field(default_factory=list)
    gap: list[float] = field(default_factory=list)
    peak: int = 0


def table(stage: Stage, runs: int) -> str:
    """Restore with each contender `runs` times and return the table."""
    work = stage.folder / "restore"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    figures = Figures()
    try:
        archive = _archive(stage, work)
        dump = work / "dump"
        places = {"BIN": str(stage.bin_dir), "URL": stage.url, "DUMP": str(dump)}
        timed(["bash", "-c", '"$BIN/pg_dump" -Fd -j2 -f "$DUMP" "$URL"'], places)
        # Ours come first, and an archive is written past the page cache: the later ones would find it read already.
        subprocess.run(["cat", archive, *dump.iterdir()], stdout=subprocess.DEVNULL, check=True)
        for run in range(runs):
            place = work / f"run{run}"
            place.mkdir()
            _run_all(stage, place, archive, dump, figures)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _lines(figures)


def _archive(stage: Stage, work: Path) -> Path:
    script = [sys.executable, "-m", "tests.bench.one_backup", stage.url, stage.documents, work, stage.bin_dir]
    timed(script)
    return next(work.glob("*.tar.gz"))


def _run_all(stage: Stage, work: Path, archive: Path, dump: Path, figures: Figures) -> None:
    with _scratch(stage) as url:
        timing, facts = _ours(work, archive, url, "all")
        figures.ours.append(facts["seconds"])
        figures.preview.append(facts["preview"])
        figures.peak = max(figures.peak, timing.peak_bytes)
    _empty(work / "all")
    with _scratch(stage) as url:
        _, facts = _ours(work, archive, url, "database")
        figures.ours_database.append(facts["seconds"])
    with _scratch(stage) as url:
        output = work / "script"
        output.mkdir()
        places = {"BIN": str(stage.bin_dir), "URL": url, "OUT": str(output), "ARCHIVE": str(archive)}
        figures.script.append(timed(["bash", "-c", SCRIPT], places).seconds)
    _empty(output)
    with _scratch(stage) as url:
        places = {"BIN": str(stage.bin_dir), "URL": url, "DUMP": str(dump)}
        figures.pg_restore.append(timed(["bash", "-c", PG_RESTORE], places).seconds)
    with _scratch(stage) as url:
        figures.gap.append(_gap_under_load(work, archive, url))


def _ours(work: Path, archive: Path, url: str, scope: str) -> tuple[Timing, dict[str, float]]:
    documents = work / scope / "documents"
    documents.mkdir(parents=True, exist_ok=True)
    timing = timed([sys.executable, "-m", "tests.bench.one_restore", url, documents, archive, work / "state", scope])
    return timing, json.loads(timing.output)


def _empty(folder: Path) -> None:
    """Free the disk and the memory that a contender's files take, but leave the files: where ext4 has no journal, whoever
    makes 20,000 files within minutes after as many were deleted is slowed down by seconds."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


@contextlib.contextmanager
def _scratch(stage: Stage) -> Iterator[str]:
    """Yield the URL of an empty database which is dropped afterwards."""
    with psycopg.connect(stage.server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {SCRATCH} WITH (FORCE)")
        connection.execute(f"CREATE DATABASE {SCRATCH} TEMPLATE template0")
        connection.execute("CHECKPOINT")
    try:
        yield stage.server.url(SCRATCH)
    finally:
        with psycopg.connect(stage.server.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {SCRATCH} WITH (FORCE)")


def _gap_under_load(work: Path, archive: Path, url: str) -> float:
    """Restore the database while clients query it all the time; return the longest time that one had no answer."""
    over = threading.Event()
    longest = [0.0] * CLIENTS
    threads = [threading.Thread(target=_client, args=[url, over, longest, number]) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        _ours(work, archive, url, "database")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    return max(longest)


def _client(url: str, over: threading.Event, longest: list[float], number: int) -> None:
    """Ask again and again, connect again when refused, and note the longest pause between a failure and the next answer."""
    failed_at: float | None = None
    connection: psycopg.Connection | None = None
    while not over.is_set():
        try:
            connection = connection or psycopg.connect(url, autocommit=True, connect_timeout=5)
            connection.execute("SELECT count(*) FROM pg_class")
            if failed_at is not None:
                longest[number] = max(longest[number], time.monotonic() - failed_at)
                failed_at = None
            time.sleep(0.005)
        except psycopg.Error:
            failed_at = failed_at or time.monotonic()
            if connection is not None:
                connection.close()
            connection = None
    if connection is not None:
        connection.close()


def _lines(figures: Figures) -> str:
    def row(name: str, theirs: list[float], ours: list[float], wanted: float) -> str:
        ratio = statistics.median(a / b for a, b in zip(theirs, ours, strict=True))
        return f"{name:40}{statistics.median(theirs):9.2f}{statistics.median(ours):9.2f}{ratio:9.2f} x{wanted:8.2f} x"

    return "\n".join(
        [
            f"Restore of {DATABASE} into an empty server database, statistics and all",
            f"{'':40}{'seconds':>9}{'ours':>9}{'ours is':>11}{'wanted':>10}",
            row("tar xzf  +  zcat | psql", figures.script, figures.ours, 2.0),
            row("pg_restore -j2 (database only)", figures.pg_restore, figures.ours_database, 1.25),
            f"longest pause of {CLIENTS} busy clients: {max(figures.gap):.2f} s (wanted: below 0.5)",
            f"first preview: {max(figures.preview):.2f} s (wanted: below 1)",
            f"peak memory of ours: {figures.peak / MB:.0f} MB (wanted: below 250)",
        ]
    )
