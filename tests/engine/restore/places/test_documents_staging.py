"""The staging folder: whatever an archive holds or somebody does beside it, nothing is made anywhere else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from app.engine.errors import RestoreError
from app.engine.restore.places import staging_folder as staging_documents
from app.engine.restore.places.remove_tree import remove_tree
from app.engine.restore.places.staging_folder import StagingFolder, Trust
from app.engine.source.documents import Document
from app.engine.system.folders import all_below, open_root
from tests.support.trees import make_deep, opened, tree_of, write_at

CHAINS = {
    "a link through a link to the root": [("p/q/r", "../.."), ("p/q/r/s", "../../../outside/planted")],
    "links to themselves": [("a", "."), ("a/b", "."), ("a/b/c", "../..")],
    "a link below a link": [("a", "."), ("a/x", "file")],
    "a link below a link below a link": [("l", "f"), ("l/m", "."), ("l/m/n", "..")],
    "each inside, together out": [("f/here", ".."), ("out", "f/here/../outside")],
    "out through another that comes later": [("out", "z/../../outside"), ("z", "f")],
    "behind what is not there": [("out", "nothing/../../outside")],
    "behind a file": [("out", "file/../../outside")],
    "absolute": [("out", "/etc/passwd")],
    "absolute through another": [("one", "two/x"), ("two", "/etc")],
    "up": [("out", "..")],
    "up by a folder": [("f/out", "../..")],
    "many dots": [("out", "././/./f/.././/../outside")],
    "nothing": [("out", "")],
    "NUL": [("out", "a\0b")],
    "a long chain": [(f"f/l{n}", f"l{n + 1}") for n in range(35)] + [("f/l35", "../..")],
    "a loop with a way out": [("l", "m"), ("m", "l/../..")],
    "very many steps": [("out", "f/../" * 5000)],
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder as documents lie in one, with a neighbour that nothing may be made in."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "outside").mkdir()
    (tmp_path / "outside").mkdir()
    return tmp_path / "app"


def link(path: str, target: str) -> Document:
    return Document(path, "symlink", 0, 0o777, 10**18, 0, 0, target)


def stage(place: Path, links: list[tuple[str, str]], trust: Trust) -> StagingFolder:
    folder = StagingFolder(place / ".staging", trust)
    folder.add_folder(Document("", "folder", 0, 0o700, 10**18, 0, 0))
    folder.add_file(Document("file", "file", 1, 0o600, 10**18, 0, 0), iter([b"x"]), None)
    folder.add_folder(Document("f", "folder", 0, 0o700, 10**18, 0, 0))
    for path, target in links:
        folder.add_link(link(path, target))
    folder.finish()
    return folder


def around(place: Path) -> object:
    return {path: facts for path, facts in tree_of(place.parent).items() if b".staging" not in path and path != b"app"}


@pytest.mark.parametrize("trust", Trust)
@pytest.mark.parametrize("what", CHAINS)
def test_links_that_lead_out_alone_or_together_are_not_left(place: Path, what: str, trust: Trust) -> None:
    before, warned = around(place), False

    try:
        warned = bool(stage(place, CHAINS[what], trust).warnings.all())
    except RestoreError:
        assert what not in ("absolute", "up") or trust is Trust.FOREIGN
    else:
        assert trust is Trust.SIGNED
        assert warned

    assert around(place) == before
    if warned:
        root = os.path.realpath(place / ".staging")
        for folder, folders, files in os.walk(root):
            for name in [*folders, *files]:
                led_to = os.path.realpath(os.path.join(folder, name))
                assert led_to == root or led_to.startswith(f"{root}/")
    assert remove_tree(place / ".staging") == []
    assert not (place / ".staging").exists()


@pytest.mark.parametrize("trust", Trust)
def test_links_that_stay_inside_are_kept(place: Path, trust: Trust) -> None:
    links = {
        "f/a": "../file", "by": "f/../file", "loop": "loop", "self": ".", "gone": "f/nothing/../x",
        "far": "./" * 2000 + "file", "through": "f/up/file", "f/up": "..",
    }  # fmt: skip

    folder = stage(place, list(links.items()), trust)

    assert folder.warnings.all() == []
    assert {path: os.readlink(place / ".staging" / path) for path in links} == links


@pytest.mark.parametrize("trust", Trust)
def test_modes_that_give_rights_come_from_signed_archives_only(place: Path, trust: Trust) -> None:
    folder = StagingFolder(place / ".staging", trust)
    folder.add_folder(Document("", "folder", 0, 0o2750, 10**18, 0, 0))
    folder.add_file(Document("run", "file", 1, 0o6755, 10**18, 0, 0), iter([b"x"]), None)
    folder.finish()

    modes = [(place / ".staging" / name).stat().st_mode & 0o7777 for name in ("", "run")]

    assert modes == ([0o2750, 0o6755] if trust is Trust.SIGNED else [0o750, 0o755])
    assert len(folder.warnings.all()) == (trust is not Trust.SIGNED)


def test_a_staging_folder_that_is_exchanged_meanwhile_leads_nobody_away(place: Path) -> None:
    folder = StagingFolder(place / ".staging")
    outside = place.parent / "outside"
    (outside / "f").mkdir()
    before = around(place)
    os.rename(place / ".staging", place / ".staging-moved")
    (place / ".staging").symlink_to(outside)

    folder.add_folder(Document("", "folder", 0, 0o777, 1, 0, 0))
    folder.add_folder(Document("f", "folder", 0, 0o777, 1, 0, 0))
    folder.add_file(Document("f/file", "file", 1, 0o666, 1, 0, 0), iter([b"x"]), None)
    folder.add_link(link("link", "f"))
    folder.finish()

    assert around(place) == before
    assert (place / ".staging-moved" / "f" / "file").read_bytes() == b"x"
    info = (place / ".staging-moved").stat()
    assert folder.identity == (info.st_dev, info.st_ino)
    [left] = remove_tree(place / ".staging", folder.identity)
    assert "not the folder that was made here" in left
    assert around(place) == before


@pytest.mark.parametrize("by", ["a link", "a folder of others", "a full folder", "nothing"])
def test_a_staging_folder_that_is_exchanged_at_once_is_not_used(
    place: Path, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, outside = os.mkdir, place.parent / "outside"
    real(place / "others")
    (place / "others").chmod(0o777 if by == "a folder of others" else 0o700)
    if by == "a full folder":
        (place / "others" / "file").touch()

    def exchanged(path: Path, mode: int = 0o777) -> None:
        real(path, mode)
        os.rmdir(path)
        if by == "a link":
            path.symlink_to(outside)
        elif by != "nothing":
            (place / "others").rename(path)

    monkeypatch.setattr(staging_documents.os, "mkdir", exchanged)
    with pytest.raises(RestoreError, match="was replaced while it was made"):
        StagingFolder(place / ".staging")
    assert os.listdir(outside) == []


def test_a_tree_of_any_depth_is_removed(place: Path) -> None:
    tree = place / "tree"
    tree.mkdir()
    fd = make_deep(tree, 1500, each=b"x")
    os.chmod(fd, 0)
    os.close(fd)
    with opened(tree, *["d"] * 1200) as fd:
        os.mkdir("side", dir_fd=fd)
        os.symlink("../..", "link", dir_fd=fd)
        os.mkfifo("pipe", dir_fd=fd)
        os.chmod(fd, 0o100)

    assert remove_tree(tree) == []

    assert not tree.exists()
    assert remove_tree(tree) == []


def test_all_below_a_folder_is_found_at_any_depth(place: Path) -> None:
    os.close(make_deep(place / "outside", 1200, each=b"x"))
    (place / "outside" / "link").symlink_to("d")

    found = [(name, info) for _, name, _, info in all_below(open_root(place / "outside"))]

    assert [name for name, _ in found].count("d") == [name for name, _ in found].count("z") == 1200
    assert len(found) == 2401
    assert remove_tree(place / "outside") == []


def test_a_tree_beyond_the_longest_path_is_removed(place: Path) -> None:
    tree = place / "tree"
    tree.mkdir()
    os.close(make_deep(tree, 700, b"\xff" * 255))

    assert remove_tree(tree) == []

    assert not tree.exists()


def test_links_in_a_tree_are_removed_and_not_followed(place: Path) -> None:
    tree, outside = place / "tree", place.parent / "outside"
    (tree / "f").mkdir(parents=True)
    (outside / "kept").touch()
    (tree / "f" / "link").symlink_to(outside)
    (tree / "g").symlink_to(outside)

    assert remove_tree(tree) == []
    assert (outside / "kept").exists()

    tree.symlink_to(outside)
    assert remove_tree(tree) != []
    assert (outside / "kept").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sets these flags")
def test_files_that_must_not_be_changed_do_not_stay(place: Path) -> None:
    tree = place / "tree"
    (tree / "f" / "g").mkdir(parents=True)
    (tree / "f" / "file").touch()
    (tree / "f" / "log").touch()
    for flag, path in (("+i", "f/file"), ("+a", "f/log"), ("+i", "f/g"), ("+i", "f")):
        if subprocess.run(["chattr", flag, tree / path], capture_output=True).returncode != 0:
            pytest.skip("this filesystem has no such flags")

    assert remove_tree(tree) == []
    assert not tree.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_what_is_mounted_in_a_tree_is_not_emptied_and_all_else_is_removed(place: Path) -> None:
    tree, outside = place / "tree", place.parent / "outside"
    (tree / "f" / "mounted").mkdir(parents=True)
    (tree / "f" / "file").touch()
    (tree / "g").mkdir()
    (outside / "kept").touch()
    if subprocess.run(["mount", "--bind", outside, tree / "f" / "mounted"], capture_output=True).returncode != 0:
        pytest.skip("nothing can be mounted here")
    try:
        left = remove_tree(tree)
    finally:
        subprocess.run(["umount", tree / "f" / "mounted"], check=True)

    assert left == [f"{tree}/f/mounted: another filesystem is mounted there"]
    assert (outside / "kept").exists()
    assert [path.name for path in tree.rglob("*")] == ["f", "mounted"]


def test_what_can_not_be_removed_is_named_and_all_else_is_removed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for files of another user in a folder of another user, seen by one who is not root."""
    tree = place / "tree"
    tree.mkdir()
    for number in range(30):
        (tree / f"n{number}").mkdir()
        (tree / f"n{number}" / "theirs").touch()
        (tree / f"n{number}" / "ours").touch()
    real = os.unlink

    def refusing(name: str, *, dir_fd: int | None = None) -> None:
        if name == "theirs":
            raise PermissionError(1, "Operation not permitted")
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refusing)
    left = remove_tree(tree)
    monkeypatch.undo()

    assert len(left) == 21
    assert all("theirs: it can't be removed (Operation not permitted)" in line for line in left[:20])
    assert left[20] == "… and 10 more"
    assert not list(tree.rglob("ours"))


def test_documents_are_written_deeper_than_a_path_leads(place: Path) -> None:
    folder = StagingFolder(place / ".staging")
    deep = "/".join(["x" * 200] * 100)
    folder.add_file(Document(f"{deep}/file", "file", 1, 0o600, 10**18, 0, 0), iter([b"x"]), None)
    folder.add_link(link(f"{deep}/link", "file"))
    folder.add_folder(Document(deep, "folder", 0, 0o500, 10**18, 0, 0))
    folder.finish()

    with opened(place / ".staging", *deep.split("/")) as fd:
        assert sorted(os.listdir(fd)) == ["file", "link"]
        assert os.fstat(fd).st_mode & 0o777 == 0o500
        write_at(fd, "more", b"")
    assert remove_tree(place / ".staging") == []
