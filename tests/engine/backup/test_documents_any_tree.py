"""Whatever Linux allows in a folder is backed up and restored, or left out with a warning that names it."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from app.engine.restore.places.remove_tree import remove_tree
from app.engine.restore.preview.preview import preview
from app.engine.restore.request import RestoreRequest
from app.engine.restore.restore import restore
from app.engine.restore.swap import discard
from app.engine.source.documents import LONGEST_PATH, named
from app.engine.source.preflight import Source
from app.engine.verify.verify import verify_archive
from tests.support.archives import APP, KEY, backup
from tests.support.databases import SourceDatabase
from tests.support.trees import Tree, make_deep, opened, tree_of

ODD_NAMES = [
    b"\xff\xfe",
    b"a\nb",
    b" ",
    b"-rf",
    b"...",
    b"\xc3\xa9",
    b"x" * 255,
    b"\xff" * 255,
    b"a\\b",
    b"A",
    b"a",
    b"\x01",
]
ODD_TARGETS = [
    b".", b"..", b"../..", b"a", b"a/../A", b"a/b/../../a", b"nothing", b"nothing/../..", b"/etc/passwd", b"./" * 2047,
    b"x" * 4095, b"/" * 4095, b"../" * 1000, b"a/" * 1000 + b"../" * 999, b"\xff", b"a\n", b"../documents/a", b"/",
]  # fmt: skip
ODD_TIMES = [0, 1, -1, -(2**31), -(2**31) - 1, 2**31, 2**32, 2**33, 2**34 - 1, 2**34, 4_611_686_019, 253_402_300_800, 2**62]
MODES = st.one_of(st.sampled_from([0, 0o7777, 0o4755, 0o2775, 0o1777, 0o100, 0o444]), st.integers(0, 0o7777))
NAMES = st.one_of(
    st.sampled_from(ODD_NAMES),
    st.binary(min_size=1, max_size=255).filter(lambda name: name not in (b".", b"..") and not {0, 47} & set(name)),
)
NANOSECONDS = st.builds(
    lambda seconds, part: seconds * 10**9 + part,
    st.one_of(st.sampled_from(ODD_TIMES), st.integers(-(2**31), 2**34)),
    st.integers(0, 10**9 - 1),
)
KINDS = ["file", "file", "folder", "folder", "link", "link", "sparse", "hard link", "pipe", "socket", "device"]
ENTRY = st.tuples(st.sampled_from(KINDS), st.integers(0, 9), NAMES, st.sampled_from(ODD_TARGETS), MODES, NANOSECONDS)
DEEP = st.one_of(
    st.none(),
    st.tuples(st.integers(2, 60), st.sampled_from([b"x" * 255, b"\xff" * 200, b"d"])),
    st.tuples(st.sampled_from([140, 990, 1100]), st.sampled_from([b"d", b"\xc3\xa9", b"x" * 255])),
)
TREES = st.tuples(st.lists(ENTRY, max_size=14), DEEP)
SOME = settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    database=None,
    derandomize=True,
)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that is removed however deep it is by then."""
    path = Path(tempfile.mkdtemp(prefix="trees"))
    yield path
    assert remove_tree(path) == []


def build(root: Path, tree: tuple[list[tuple[str, int, bytes, bytes, int, int]], tuple[int, bytes] | None]) -> None:
    """Make the tree; what can't be made here, such as a name that is taken, is left out."""
    root.mkdir()
    entries, deep = tree
    folders: list[list[bytes]] = [[]]
    files: list[list[bytes]] = []
    facts: list[tuple[list[bytes], int, int]] = []
    for kind, where, name, target, mode, time in entries:
        above = folders[where % len(folders)]
        path = [*above, name]
        with opened(root, *above) as fd, suppress(OSError):
            if kind == "folder":
                os.mkdir(name, dir_fd=fd)
                folders.append(path)
            elif kind == "link":
                os.symlink(target, name, dir_fd=fd)
            elif kind == "hard link" and files:
                with opened(root, *files[-1][:-1]) as other:
                    os.link(files[-1][-1], name, src_dir_fd=other, dst_dir_fd=fd)
            elif kind == "pipe":
                os.mkfifo(name, dir_fd=fd)
            elif kind == "socket":
                with socket.socket(socket.AF_UNIX) as server:
                    server.bind(f"/proc/self/fd/{fd}/".encode() + name)
            elif kind == "device":
                os.mknod(name, 0o600 | stat.S_IFCHR, os.makedev(1, 3), dir_fd=fd)
            else:
                file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=fd)
                os.write(file, target * 3)
                if kind == "sparse":
                    os.ftruncate(file, 5_000_000)
                os.close(file)
                files.append(path)
            if kind != "link":
                facts.append((path, mode, time))
            else:
                os.utime(name, ns=(time, time), dir_fd=fd, follow_symlinks=False)
    if deep is not None and not os.path.lexists(os.path.join(os.fsencode(root), deep[1])):
        fd = make_deep(root, deep[0], deep[1], b"deep")
        os.symlink("../" * min(deep[0], 1000) + "a", "up", dir_fd=fd)
        os.close(fd)
    for path, mode, time in reversed(facts):
        with opened(root, *path[:-1]) as fd, suppress(OSError, OverflowError):
            os.chmod(path[-1], mode, dir_fd=fd)
            os.utime(path[-1], ns=(time, time), dir_fd=fd, follow_symlinks=False)


def without(tree: Tree, modes: int, seconds: bool) -> Tree:
    """Return a tree with these mode bits only, and whole seconds only."""
    found: Tree = {}
    for path, (mode, uid, gid, time, content) in tree.items():
        assert isinstance(mode, int)
        assert isinstance(time, int)
        kept = stat.S_IFMT(mode) | (mode if stat.S_ISLNK(mode) else mode & modes)
        found[path] = (kept, uid, gid, time // 10**9 if seconds else time, content)
    return found


def with_those_above(path: bytes) -> Iterator[bytes]:
    """Yield a path and those of the folders above it."""
    while path:
        yield path
        path = path.rpartition(b"/")[0]


def must_be_kept(tree: Tree) -> set[bytes]:
    """Return the files and folders that nothing excuses from being backed up."""
    kinds = (stat.S_ISREG, stat.S_ISDIR)
    return {
        path
        for path, (mode, *_) in tree.items()
        if len(path) <= LONGEST_PATH and isinstance(mode, int) and any(kind(mode) for kind in kinds)
    }


def check(database: SourceDatabase, place: Path, tree: object) -> None:
    documents, storage = place / "documents", place / "backups"
    storage.mkdir(exist_ok=True)
    build(documents, tree)  # type: ignore[arg-type]
    before = tree_of(documents)

    made = backup(database.url, documents, storage)

    assert verify_archive(made.path, KEY).problems == []
    assert tree_of(documents) == before
    for key, modes, seconds in ((KEY, 0o7777, False), (b"another key, as on the day the machine is gone", 0o777, True)):
        target = place / f"restored-{len(key)}"
        source = Source(database.url, target, APP)
        request = RestoreRequest(made.path, source, place / "journals", key, uuid4(), "documents", disk_reserve=0)
        assert preview(request, exact=True).blockers == []
        result = restore(request)
        discard(request.state_dir, request.restore_id, source)
        after = tree_of(target)
        kept = {path: facts for path, facts in before.items() if path in after}
        assert without(after, 0o7777, seconds) == without(kept, modes, seconds)
        if os.geteuid() == 0:
            assert must_be_kept(before) <= after.keys()
        warnings = "\n".join(made.warnings)
        for path in before.keys() - after.keys():
            assert any(f"{named(os.fsdecode(above))}: " in warnings for above in with_those_above(path)), path
        assert not [warning for warning in result.warnings if "leads out" in warning]
        assert remove_tree(target) == []
    assert remove_tree(documents) == []
    made.path.unlink()


ALL_AT_ONCE = (
    [("folder", 0, b"a", b"", 0o7777, -(10**9)), ("folder", 0, b"A", b"", 0, 2**33 * 10**9)]
    + [("link", number % 3, b"l%d" % number, target, 0, -5) for number, target in enumerate(ODD_TARGETS)]
    + [("file", number % 3, name, b"z", number, ODD_TIMES[number] * 10**9) for number, name in enumerate(ODD_NAMES)]
    + [(kind, 1, b"k%d" % number, b"k", 0o7777, 1) for number, kind in enumerate(KINDS)],
    (1100, b"d" * 4),
)


def test_everything_at_once(small_database: SourceDatabase, place: Path) -> None:
    check(small_database, place, ALL_AT_ONCE)


def test_paths_beyond_all_limits_are_left_out_with_a_warning_each(small_database: SourceDatabase, place: Path) -> None:
    check(small_database, place, ([], (140, b"x" * 255)))


@SOME
@given(tree=TREES)
def test_some_trees(small_database: SourceDatabase, tree: object) -> None:
    check_in_a_new_place(small_database, tree)


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@settings(SOME, max_examples=40)
@given(tree=TREES)
def test_many_trees(small_database: SourceDatabase, tree: object) -> None:
    check_in_a_new_place(small_database, tree)


def check_in_a_new_place(database: SourceDatabase, tree: object) -> None:
    place = Path(tempfile.mkdtemp(prefix="trees"))
    try:
        check(database, place, tree)
    finally:
        remove_tree(place)
