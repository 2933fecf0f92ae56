"""One restore by the engine, as a process of its own; prints its phases, its gap and the preview's time as JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from uuid import uuid4

from app.engine.restore.preview.preview import preview
from app.engine.restore.request import RestoreRequest
from app.engine.restore.restore import restore
from app.engine.restore.swap import discard
from app.engine.source.preflight import Source
from tests.bench.one_backup import SIGNING_KEY


def main() -> None:
    url, documents, archive, state, scope = sys.argv[1:]
    began = time.perf_counter()
    phases: dict[str, float] = {}

    def progress(phase: str, done: int, total: int | None) -> None:
        phases.setdefault(phase, time.perf_counter() - began)

    target = Source(url, Path(documents), "motovaultpro")
    request = RestoreRequest(Path(archive), target, Path(state), SIGNING_KEY, uuid4(), scope)
    before = time.perf_counter()
    preview(request)
    previewed = time.perf_counter() - before
    began = time.perf_counter()
    result = restore(request, progress)
    seconds = time.perf_counter() - began
    discard(request.state_dir, request.restore_id, target)
    print(json.dumps({"phases": phases, "gap": result.gap_seconds, "preview": previewed, "seconds": seconds}))


if __name__ == "__main__":
    main()
