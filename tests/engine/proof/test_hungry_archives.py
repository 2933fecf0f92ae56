"""Archives that are made to cost much: refused within 20 s of CPU and 300 MB, whichever door they come in by."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from app.engine.errors import ArchiveLimitError
from app.engine.proof.check_archive import CheckLimits, check_archive
from tests.support.archives import KEY
from tests.support.hungry import FOREIGN, OURS

MOST_SECONDS = 20
MOST_BYTES = 300 * 10**6
SMALL, LARGE = 100_000, 99 * 10**6
DOORS = ["check", "verify", "preview", "contents"]
ARCHIVES: dict[str, Callable[[Path, int], None]] = FOREIGN | OURS
ACCEPTED = {"many entries", "noise behind the end"}
"""What is whole, though odd, where it is small: the bounds hold for it all the same."""

SLOW = {
    "a dump of words",
    "a dump of parentheses",
    "a dump of code",
    "a dump of comments",
    "a dump of one table",
    "a dump of tiny statements",
    "a dump of quotes",
    "a dump of backslashes",
    "a COPY of blanks",
}
"""A few kilobytes of these take seconds all the same."""

_CHILD = r"""
import json, re, resource, sys, time
from pathlib import Path
from uuid import uuid4
from app.engine.archive.reader import open_archive
from app.engine.errors import EngineError
from app.engine.proof.check_archive import check_archive
from app.engine.restore.preview.preview import preview
from app.engine.restore.request import RestoreRequest
from app.engine.source.preflight import Source
from app.engine.verify.verify import verify_archive
from app.services.backups.archive_index import Found

def contents(path):
    found = Found("", "", 50)
    with open_archive(path, b"key") as reader:
        for line in reader.index_lines():
            found.add(line)
        found.window(0, 50)
    return []

def previewed(path):
    live = path.parent / "live" / "documents"
    live.mkdir(parents=True, exist_ok=True)
    target = Source("postgresql://nobody@127.0.0.1:1/none", live, "app")
    return preview(RestoreRequest(path, target, path.parent / "state", b"key", uuid4(), "documents"), exact=True).blockers

do = {
    "check": lambda path: check_archive(path, b"key").problems,
    "verify": lambda path: verify_archive(path, b"key").problems,
    "preview": previewed,
    "contents": contents,
}

def spent():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used), used[1].ru_maxrss * 1024

found = []
for path, doors in json.loads(sys.stdin.read()):
    for door in doors:
        began = spent()[0]
        try:
            said = do[door](Path(path))
        except EngineError as refusal:
            said = [str(refusal)]
        own = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
        seconds, childs = spent()
        print(path, door, said[:1], seconds - began, max(own, childs), file=sys.stderr, flush=True)
        found.append([Path(path).name, door, said, seconds - began, max(own, childs)])
print(json.dumps(found))
"""


def _go_through(orders: list[tuple[Path, list[str]]]) -> list[tuple[str, str, list[str], float, int]]:
    """Return for each archive and door what was said, the seconds of CPU, and the most bytes of memory until then."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=json.dumps([(str(path), doors) for path, doors in orders]),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [tuple(line) for line in json.loads(done.stdout)]
    for name, door, said, seconds, size in found:
        print(f"{name:32} {door:9} {seconds:6.2f} s {size / 1e6:5.0f} MB  {'; '.join(said)[:120]}")
    return found  # type: ignore[return-value]


def _assert_bounded(found: list[tuple[str, str, list[str], float, int]]) -> None:
    for name, door, said, seconds, size in found:
        assert seconds < MOST_SECONDS, f"{name}, {door}: {seconds:.1f} s"
        assert size < MOST_BYTES, f"{name}, {door}: {size // 10**6} MB"
        # The preview of an archive with an index reads that, and no more; so does who looks at its contents.
        if door in ("check", "verify") and name not in ACCEPTED:
            assert said, f"{name} was accepted by {door}"


def _doors(name: str) -> list[str]:
    """Return the doors that look further into such an archive than at its footer."""
    return ["check", "preview"] if name in FOREIGN else DOORS


def test_small_ones(tmp_path: Path) -> None:
    orders = []
    for name, make in ARCHIVES.items():
        if name not in SLOW:
            path = tmp_path / name
            make(path, SMALL)
            orders.append((path, _doors(name)))
    _assert_bounded(_go_through(orders))


def test_a_check_ends_at_its_limits_and_when_it_is_cancelled(tmp_path: Path) -> None:
    before = set(psutil.Process().children())  # servers of other tests
    slow, wide = tmp_path / "slow", tmp_path / "wide"
    ARCHIVES["a dump of tiny statements"](slow, SMALL)
    ARCHIVES["a dump of backslashes"](wide, SMALL)
    with pytest.raises(ArchiveLimitError, match="more than 1 seconds of CPU time"):
        check_archive(slow, KEY, limits=CheckLimits(cpu_seconds=1))
    with pytest.raises(ArchiveLimitError, match="more than 2 seconds"):
        check_archive(slow, KEY, limits=CheckLimits(wall_seconds=2))
    with pytest.raises(ArchiveLimitError, match="more than 50 MB of memory"):
        check_archive(wide, KEY, limits=CheckLimits(memory_bytes=50 * 10**6))

    class Cancelled(Exception):
        pass

    def cancel(phase: str, done: int, total: int | None) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        check_archive(slow, KEY, cancel)
    assert set(psutil.Process().children()) <= before


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ARCHIVES)
def test_large_ones(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    ARCHIVES[name](path, LARGE)
    print(f"{path.stat().st_size / 1e6:.1f} MB")
    for door in _doors(name):
        _assert_bounded(_go_through([(path, [door])]))
