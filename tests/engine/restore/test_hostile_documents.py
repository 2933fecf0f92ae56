"""After each of 300 hostile archives of documents, failed or restored, undone and discarded: nothing around is changed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.errors import EngineError
from app.engine.restore.recovery import recover
from app.engine.restore.request import RestoreRequest
from app.engine.restore.restore import restore
from app.engine.restore.swap import discard, undo
from tests.support.cluster import cluster_facts
from tests.support.hostile_documents import PLANTED, Hostile, all_hostile
from tests.support.restoring import Live, pristine
from tests.support.trees import Tree, tree_of

ARCHIVES = all_hostile()
SAMPLE = [hostile for number, hostile in enumerate(ARCHIVES) if not number % 11 or hostile.what.startswith("to itself")]


@pytest.fixture(scope="module")
def live(pg18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A live pair with a few documents, a neighbour of its folder, and the journals' folder."""
    folder = tmp_path_factory.mktemp("hostile")
    with pristine(pg18, tmp_path_factory.mktemp("pristine"), b"SELECT 1") as made, made.live(folder) as live:
        shutil.rmtree(live.documents)
        (live.documents / "f").mkdir(parents=True)
        (live.documents / "f" / "x").write_text("live")
        (folder / "outside").mkdir()
        (folder / "outside" / "secret").write_text("secret")
        (folder / "app" / "outside").mkdir()
        live.state_dir.mkdir(mode=0o700)
        yield live


def around(live: Live, *without: bytes) -> Tree:
    """Return all that lies around the documents, and them, but for what is named and the times of folders that are ours."""
    found = tree_of(live.documents.parent.parent)
    for ours in (b"", b"app", b".restores"):
        mode, uid, gid, _, _ = found[ours]
        found[ours] = (mode, uid, gid)
    return {path: facts for path, facts in found.items() if not path.startswith(without)}


def check(live: Live, request: RestoreRequest, with_server: bool) -> bool:
    """Restore; whether it is refused or not, compare all around it, at every step until nothing is left of it. Return
    whether it was restored."""
    before, staging = around(live), f"app/.documents_restore_{request.restore_id.hex[:12]}".encode()
    server = cluster_facts(live.server) if with_server else {}
    try:
        restore(request)
    except EngineError:
        assert around(live) == before
        assert recover(live.state_dir, live.source()) == []
        restored = False
    else:
        restored = True
        documents, journal = b"app/documents", f".restores/{request.restore_id}.json".encode()
        but_ours = around(live, documents, staging, journal)
        assert but_ours == {path: facts for path, facts in before.items() if not path.startswith(documents)}
        check_inside(live.documents)
        assert recover(live.state_dir, live.source()) == []
        undo(live.state_dir, request.restore_id, live.source())
        assert around(live, staging, journal) == before
        check_inside(live.documents.parent / os.fsdecode(staging.removeprefix(b"app/")))
        discard(live.state_dir, request.restore_id, live.source())
    assert recover(live.state_dir, live.source()) == []
    assert around(live) == before
    assert not (live.state_dir / f"{PLANTED}.json").is_symlink()
    if with_server:
        assert cluster_facts(live.server) == server
    return restored


def check_inside(documents: Path) -> None:
    """Check that nothing in restored documents leads out of them or gives rights."""
    root = os.path.realpath(documents)
    for place, folders, files in os.walk(root):
        for name in [*folders, *files, "."]:
            path = os.path.join(place, name)
            if len(path) > 3500:
                continue
            led_to = os.path.realpath(path)
            assert led_to == root or led_to.startswith(f"{root}/"), path
            assert os.path.islink(path) or not os.lstat(path).st_mode & 0o7000


def test_there_are_many_and_all_are_different() -> None:
    assert len({hostile.what for hostile in ARCHIVES}) == len(ARCHIVES) >= 300


def test_a_sample_of_them(live: Live, tmp_path: Path) -> None:
    restored = [check_one(live, hostile, tmp_path, False, number < 3) for number, hostile in enumerate(SAMPLE)]
    assert 0 < sum(restored) < len(restored)


@pytest.mark.heavy
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("trusted", [False, True], ids=["from elsewhere", "trusted"])
def test_all_of_them(live: Live, tmp_path: Path, trusted: bool) -> None:
    restored = [check_one(live, hostile, tmp_path, trusted, number % 4 == 0) for number, hostile in enumerate(ARCHIVES)]
    assert 30 < sum(restored) < len(restored) - 150


def check_one(live: Live, hostile: Hostile, folder: Path, trusted: bool, with_database: bool) -> bool:
    archive = hostile.write(folder / "hostile.tar.gz")
    scope = "all" if with_database else "documents"
    try:
        return check(live, live.request(archive, scope=scope, trusted=trusted), with_database)
    except BaseException as error:
        error.add_note(f"the archive: {hostile.what}")
        raise
