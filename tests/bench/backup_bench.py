"""The backup rows: ours against the three usual command lines."""

from __future__ import annotations

import json
import shutil
import statistics
import sys
from dataclasses import dataclass, field

from tests.bench.stage import Stage, size_of, timed

MB = 1_000_000
COMMAND_LINES = {
    "pg_dump | gzip  +  tar czf": (
        'set -o pipefail; "$BIN/pg_dump" "$URL" | gzip > "$OUT/db.sql.gz" && '
        'tar czf "$OUT/docs.tar.gz" -C "$DOCS" documents',
        ("gzip", "tar"),
        10.0,
    ),
    "pg_dump -Fd -j2  +  tar cf": (
        '"$BIN/pg_dump" -Fd -j2 -f "$OUT/db" "$URL" && tar cf "$OUT/docs.tar" -C "$DOCS" documents',
        ("tar",),
        3.5,
    ),
    "pg_dump | pigz  +  tar -I pigz": (
        'set -o pipefail; "$BIN/pg_dump" "$URL" | pigz > "$OUT/db.sql.gz" && '
        'tar -I pigz -cf "$OUT/docs.tar.gz" -C "$DOCS" documents',
        ("pigz", "tar"),
        2.0,
    ),
}


@dataclass
class Row:
    """What one contender took in each run: seconds, bytes, peak resident bytes."""

    seconds: list[float] = field(default_factory=list)
    size: int = 0
    peak: int = 0


def table(stage: Stage, runs: int) -> str:
    """Run all contenders in turn `runs` times and return the table."""
    rows: dict[str, Row] = {name: Row() for name in COMMAND_LINES}
    ours, verification = Row(), Row()
    sql_bytes = 0
    stage.warm()
    for _ in range(runs):
        sql_bytes = _ours(stage, ours, verification)
        for name, (command, tools, _) in COMMAND_LINES.items():
            if all(shutil.which(tool) for tool in tools):
                _theirs(stage, command, rows[name])
    lines = [
        f"Backup of {sql_bytes / MB:.0f} MB of SQL and {size_of(stage.documents) / MB:.0f} MB of documents",
        f"{'':34}{'seconds':>9}{'ours is':>10}{'wanted':>9}{'size MB':>10}{'ours has':>10}",
    ]
    for name, row in rows.items():
        if not row.seconds:
            lines.append(f"{name:34}  not measured: a tool is missing on this machine")
            continue
        ratio = statistics.median(theirs / mine for theirs, mine in zip(row.seconds, ours.seconds, strict=True))
        wanted = COMMAND_LINES[name][2]
        lines.append(
            f"{name:34}{statistics.median(row.seconds):9.2f}{ratio:8.2f} x{wanted:7.1f} x"
            f"{row.size / MB:10.1f}{ours.size / row.size:8.3f} x"
        )
    lines.append(f"{'ours, start to published':34}{statistics.median(ours.seconds):9.2f}{'':19}{ours.size / MB:10.1f}")
    lines.append(f"{'ours, the read-back verification':34}{statistics.median(verification.seconds):9.2f}")
    lines.append(f"peak memory of ours: {ours.peak / MB:.0f} MB (wanted: below 250)")
    return "\n".join(lines)


def _ours(stage: Stage, row: Row, verification: Row) -> int:
    output = stage.fresh_output()
    script = [sys.executable, "-m", "tests.bench.one_backup", stage.url, stage.documents, output, stage.bin_dir]
    timing = timed(script)
    facts = json.loads(timing.output)
    verifying = facts["phases"]["publish"] - facts["phases"]["verify"]
    row.seconds.append(timing.seconds - verifying)
    verification.seconds.append(verifying)
    row.size, row.peak = facts["size_bytes"], max(row.peak, timing.peak_bytes)
    return int(facts["sql_bytes"])


def _theirs(stage: Stage, command: str, row: Row) -> None:
    output = stage.fresh_output()
    places = {"BIN": str(stage.bin_dir), "URL": stage.url, "OUT": str(output), "DOCS": str(stage.documents.parent)}
    row.seconds.append(timed(["bash", "-c", command], places).seconds)
    row.size = size_of(output)
