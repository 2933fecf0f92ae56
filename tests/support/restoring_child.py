"""A process that restores, undoes, discards or backs up, and stops at a named point to be killed, or kills itself there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from tests.support.archives import KEY

if TYPE_CHECKING:
    from tests.support.restoring import Live


ROOT = Path(__file__).resolve().parents[2]
JOURNAL_WRITES = 8
"""How often a restore of both halves writes its journal: begun, folder, its inode, database, its oid, pairs, exchanging,
kept."""

POINTS = [
    *(f"journal.write {number} {when}" for number in range(1, JOURNAL_WRITES + 1) for when in ("before", "torn", "after")),
    "staging_database.create 1 after",
    "staging_database.apply_settings 1 after",
    *(f"exchange._rename {number} after" for number in range(1, 4)),
    "swap.exchange_databases 1 after",
    "swap.exchange_folders 1 after",
    "swap.check_health 1 after",
]


def _at(point: str) -> None:
    """Be killed here, or wait until the other side says to go on."""
    print(f"reached {point}", flush=True)
    if os.environ["RESTORE_AT_POINT"] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.readline()


def _instrument(point: str) -> None:
    """Stop at a point, "module.function number before|torn|after": before, during or after that call of the function.

    The module is named without its packages: the engine has one of that name.
    """
    import importlib

    place, number, when = point.split()
    module_name, name = place.split(".")
    if place == "staging_database.apply_settings":
        module_name = "stage"
    [file] = (ROOT / "app" / "engine").rglob(f"{module_name}.py")
    module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
    owner = module.LocalStorage if place == "local.publish" else module
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def replaced(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        here = calls == int(number)
        if here and when == "before":
            _at(point)
        if here and when == "torn":
            rename = os.rename
            os.rename = lambda *_, **__: _at(point)
            try:
                return original(*arguments, **named)
            finally:
                os.rename = rename
        result = original(*arguments, **named)
        if here and when == "after":
            _at(point)
        return result

    setattr(owner, name, replaced)


def main() -> None:
    """Read the order as JSON from the first line of stdin, obey, print "done" or the error."""
    order = json.loads(sys.stdin.readline())
    from app.engine.backup.backup import BackupRequest, make_backup
    from app.engine.errors import EngineError
    from app.engine.proof.restore_test import RestoreTest, verify_by_restoring
    from app.engine.restore.request import RestoreRequest
    from app.engine.restore.restore import restore
    from app.engine.restore.swap import discard, undo
    from app.engine.source.preflight import Source

    for point in filter(None, order["point"].split(",")):
        _instrument(point)
    target = Source(order["url"], Path(order["documents"]), "motovaultpro")
    state_dir, restore_id = Path(order["state_dir"]), UUID(order["restore_id"])
    print("begun", flush=True)
    try:
        if order["action"] == "undo":
            undo(state_dir, restore_id, target)
        elif order["action"] == "discard":
            discard(state_dir, restore_id, target)
        elif order["action"] == "backup":
            place = Path(order["archive"]).parent
            make_backup(BackupRequest(target, place, order["key"].encode(), restore_id, disk_reserve=0, threads=2))
        elif order["action"] == "verify":
            verify_by_restoring(RestoreTest(Path(order["archive"]), target, order["key"].encode(), restore_id))
        else:
            restore(
                RestoreRequest(
                    Path(order["archive"]), target, state_dir, order["key"].encode(), restore_id, disk_reserve=0, threads=2
                )
            )
        print("done", flush=True)
    except EngineError as error:
        print(f"failed: {error}", flush=True)


@dataclass(frozen=True)
class Order:
    """What such a process does: "restore", "undo", "discard", "backup" or "verify", with a live pair and an archive.

    It stops at `point`, one or, to wait at, several with commas. `at` is "die" or "wait": what it does there.
    """

    action: str
    live: Live
    archive: Path
    restore_id: UUID
    point: str = ""
    at: str = "die"

    def as_json(self) -> str:
        """Return it as one line of JSON."""
        live = self.live
        places = {"url": live.url, "documents": str(live.documents), "state_dir": str(live.state_dir)}
        run = {"action": self.action, "archive": str(self.archive), "restore_id": str(self.restore_id), "point": self.point}
        return json.dumps(places | run | {"key": KEY.decode()})


@contextmanager
def child(order: Order) -> Iterator[subprocess.Popen[str]]:
    """Start such a process, and end it with the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.restoring_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
        env=os.environ | {"RESTORE_AT_POINT": order.at},
        cwd=ROOT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(order.as_json() + "\n")
        process.stdin.flush()
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def killed_at(point: str, action: str, live: Live, archive: Path, restore_id: UUID | None = None) -> UUID:
    """Have such a process be killed at a point, and return the restore's id."""
    restore_id = restore_id or uuid4()
    with child(Order(action, live, archive, restore_id, point)) as process:
        output, _ = process.communicate(timeout=60)
        assert output.splitlines()[-1] == f"reached {point}"
        assert process.returncode == -signal.SIGKILL
    return restore_id


if __name__ == "__main__":
    main()
