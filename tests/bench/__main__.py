"""`make bench`: our backup against the command lines that people write, on the same data in the same run.

Settings by environment: BENCH_SCALE (1.0: about 0.9 GB of SQL and 1 GB of documents), BENCH_RUNS (1; the medians are
printed), BENCH_DIR (default: DATA_DIR/bench; keeps the data between runs).
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tests.bench import backup_bench, house_bench, restore_bench
from tests.bench.stage import Stage


def main() -> None:
    scale, runs = float(os.environ.get("BENCH_SCALE", "1")), int(os.environ.get("BENCH_RUNS", "1"))
    folder = Path(os.environ.get("BENCH_DIR") or Path(os.environ.get("DATA_DIR", "data")) / "bench").resolve()
    with Stage(folder, scale) as stage:
        print(f"Scale {scale:g}, {os.cpu_count()} cores, {runs} run(s); whole wall-clock times, medians\n", flush=True)
        print(backup_bench.table(stage, runs), flush=True)
        print()
        print(restore_bench.table(stage, runs), flush=True)
    print()
    with tempfile.TemporaryDirectory(dir=folder) as house:
        print(house_bench.table(Path(house)), flush=True)


if __name__ == "__main__":
    main()
