"""One backup by the engine, as a process of its own; prints when each phase began and ended, as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from uuid import uuid4

from app.engine.backup.backup import BackupRequest, make_backup
from app.engine.source.preflight import Source

SIGNING_KEY = b"the bench's signing key of 32 by"


def main() -> None:
    url, documents, storage, bin_dir = sys.argv[1:]
    began = time.perf_counter()
    phases: dict[str, float] = {}

    def progress(phase: str, done: int, total: int | None) -> None:
        phases.setdefault(phase, time.perf_counter() - began)

    source = Source(url, Path(documents), "motovaultpro", Path(bin_dir))
    result = make_backup(BackupRequest(source, Path(storage), SIGNING_KEY, uuid4()), progress)
    print(json.dumps({"phases": phases, "size_bytes": result.size_bytes, "sql_bytes": result.manifest.database.sql_bytes}))


if __name__ == "__main__":
    main()
