"""A backup in a process of its own, with a limit of open files and its peak of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

LIMITED = """
import json, re, resource, sys
from pathlib import Path
from uuid import uuid4
from app.engine.backup.backup import BackupRequest, make_backup
from app.engine.source.preflight import Source
from app.engine.verify.verify import verify_archive

given = json.load(sys.stdin)
if given.get("files"):
    resource.setrlimit(resource.RLIMIT_NOFILE, (given["files"], given["files"]))
key = b"a signing key for the tests"
source = Source(given["url"], Path(given["documents"]), "motovaultpro")
result = make_backup(
    BackupRequest(source, Path(given["storage"]), key, uuid4(), disk_reserve=0, threads=given["threads"])
)
report = verify_archive(result.path, key)
if sys.platform == "linux":
    # ru_maxrss would count what the parent took before it started us.
    peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({
    "path": str(result.path),
    "warnings": result.warnings,
    "problems": report.problems,
    "peak_bytes": peak,
}))
"""


def backup_in_a_process(url: str, documents: Path, storage: Path, threads: int = 2, files: int = 0) -> dict[str, Any]:
    """Back up a source in a process of its own with a limit of open files; return what it reports of itself."""
    order = {"url": url, "documents": str(documents), "storage": str(storage), "threads": threads, "files": files}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED], input=json.dumps(order), capture_output=True, text=True, cwd=ROOT, timeout=1500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
