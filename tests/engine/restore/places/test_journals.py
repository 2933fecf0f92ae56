"""Journals that somebody else has written, or that are damaged: nothing that they name is touched, and they are reported."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.errors import RestoreError
from app.engine.restore.places import journal as journals
from app.engine.restore.recovery import recover
from app.engine.restore.restore import restore
from app.engine.restore.swap import discard, survey_journals, undo
from tests.support.databases import admin_connection, create_database, drop_database
from tests.support.restoring import Live, Pristine
from tests.support.small_pair import change

Plant = Callable[[Path, dict[str, Any]], None]


@pytest.fixture
def live(live: Live) -> Live:
    """A live pair that has changed since the archive was made, with a folder for journals."""
    change(live)
    live.state_dir.mkdir(mode=0o700)
    return live


@pytest.fixture
def victim(pg18: EmbeddedPostgres, tmp_path: Path) -> Iterator[tuple[str, int, Path]]:
    """A database, its oid and a folder that no restore has made."""
    name = create_database(pg18)
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "precious").write_text("precious")
    with admin_connection(pg18) as connection:
        row = connection.execute("SELECT oid::bigint FROM pg_database WHERE datname = %s", [name]).fetchone()
    assert row is not None
    yield name, row[0], folder
    drop_database(pg18, name)


def write_down(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values))
    path.chmod(0o600)


def through_a_link(path: Path, values: dict[str, Any]) -> None:
    elsewhere = path.parent.parent / "planted.json"
    write_down(elsewhere, values)
    path.symlink_to(elsewhere)


def of_somebody_else(path: Path, values: dict[str, Any]) -> None:
    write_down(path, values)
    os.chown(path, 12345, 12345)


def writable_by_all(path: Path, values: dict[str, Any]) -> None:
    write_down(path, values)
    path.chmod(0o666)


def as_a_folder(path: Path, values: dict[str, Any]) -> None:
    path.mkdir()


def as_a_pipe(path: Path, values: dict[str, Any]) -> None:
    os.mkfifo(path)


def torn(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values)[:-9])


def nested(path: Path, values: dict[str, Any]) -> None:
    path.write_text("[" * 200_000)


def empty(path: Path, values: dict[str, Any]) -> None:
    path.write_bytes(b"")


def of_another_restore(path: Path, values: dict[str, Any]) -> None:
    write_down(path, values | {"restore_id": str(uuid4())})


PLANTED = [write_down, through_a_link, writable_by_all, as_a_folder, as_a_pipe, torn, nested, empty, of_another_restore]
if os.geteuid() == 0:
    PLANTED.append(of_somebody_else)


def steps(live: Live, victim: tuple[str, int, Path], restore_id: UUID) -> list[dict[str, Any]]:
    """Return journals that name what is not theirs: in each step, by name, by oid, by path and by inode."""
    name, oid, folder = victim
    short = restore_id.hex[:12]
    info = folder.stat()
    inodes = {"new_inode": [info.st_dev, info.st_ino], "old_inode": [info.st_dev, info.st_ino]}
    base = {
        "restore_id": str(restore_id),
        "step": "staging",
        "wanted": "new",
        "staging_database": None,
        "staging_folder": None,
        "sandbox": False,
        "database": None,
        "folder": None,
        "abandoned": False,
        "transaction": None,
    }
    ours = f"{live.name}_restore_{short}"
    beside = str(live.documents.parent / f".{live.documents.name}_restore_{short}")
    pair = {"live_name": live.name, "other_name": f"{live.name}_before_{short}", "new_oid": oid, "old_oid": oid}
    return [
        base | {"staging_database": name},
        base | {"staging_folder": str(folder)},
        base | {"staging_database": ours, "staging_oid": oid, "staging_folder": str(folder)},
        base | {"step": "kept", "database": pair | {"other_name": name}},
        base | {"step": "kept", "database": pair, "staging_database": name},
        base | {"step": "kept", "folder": {"live": str(live.documents), "other": str(folder)} | inodes},
        base | {"step": "exchanging", "wanted": "old", "database": pair | {"live_name": name}},
        base | {"step": "exchanging", "folder": {"live": str(folder), "other": beside} | inodes},
        # All names are ours, but what they lead to is somebody else's.
        base | {"staging_database": ours, "staging_oid": oid},
        base | {"staging_folder": beside, "staging_inode": [info.st_dev, info.st_ino]},
        base | {"step": "kept", "database": pair},
        base | {"step": "exchanging", "database": pair, "staging_database": ours, "staging_oid": oid},
    ]


@pytest.mark.parametrize("number", range(12))
def test_what_a_journal_names_beyond_its_restore_is_not_touched(
    live: Live, victim: tuple[str, int, Path], number: int
) -> None:
    restore_id = uuid4()
    before = live.state()
    planted = steps(live, victim, restore_id)
    assert len(planted) == 12
    write_down(live.state_dir / f"{restore_id}.json", planted[number])

    recover(live.state_dir, live.source())
    assert recover(live.state_dir, live.source()) == []
    for act in (undo, discard):
        with contextlib.suppress(RestoreError):
            act(live.state_dir, restore_id, live.source())

    name, oid, folder = victim
    with admin_connection(live.server) as connection:
        assert connection.execute("SELECT datname FROM pg_database WHERE oid = %s", [oid]).fetchone() == (name,)
    assert (folder / "precious").read_text() == "precious"
    assert live.state() == before


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_one_that_can_not_be_used_is_reported_and_keeps_nobody_from_the_others(
    small: Pristine, live: Live, victim: tuple[str, int, Path], plant: Plant
) -> None:
    request = live.request(small.archive)
    restore(request)
    restore_id = uuid4()
    path = live.state_dir / f"{restore_id}.json"
    plant(path, steps(live, victim, restore_id)[0])

    assert recover(live.state_dir, live.source()) == []
    found = survey_journals(live.state_dir, live.source())

    assert len(found.problems) == 1
    assert str(restore_id) in found.problems[0]
    assert [journal.restore_id for journal in found.journals] == [request.restore_id]
    assert found.present == {request.restore_id, restore_id}
    with pytest.raises(RestoreError):
        undo(live.state_dir, restore_id, live.source())
    assert path.is_symlink() or path.exists()
    undo(live.state_dir, request.restore_id, live.source())
    discard(live.state_dir, request.restore_id, live.source())
    assert (victim[2] / "precious").exists()


def test_a_folder_of_journals_that_others_may_write_to_is_not_believed(small: Pristine, live: Live) -> None:
    live.state_dir.chmod(0o777)
    assert "can be written to by others" in survey_journals(live.state_dir, live.source()).problems[0]
    with pytest.raises(RestoreError, match="can be written to by others"):
        restore(live.request(small.archive))
    live.state_dir.rmdir()
    elsewhere = live.state_dir.with_name("elsewhere")
    elsewhere.mkdir(mode=0o700)
    live.state_dir.symlink_to(elsewhere)
    with pytest.raises(RestoreError, match="is not a directory"):
        restore(live.request(small.archive))
    assert list(elsewhere.iterdir()) == []


def test_a_large_journal_is_not_read(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "MOST_BYTES", 100)
    (live.state_dir / f"{uuid4()}.json").write_bytes(b" " * 101)
    assert "it has 101 bytes" in survey_journals(live.state_dir, live.source()).problems[0]


def as_version_1_wrote_it(path: Path, **changes: Any) -> None:
    """Take from a journal what the first release did not write."""
    values = json.loads(path.read_text()) | changes
    for name in ("staging_oid", "staging_inode", "database_contents", "folder_contents"):
        del values[name]
    write_down(path, values)


def test_what_an_older_version_keeps_can_be_undone_and_dropped(small: Pristine, live: Live) -> None:
    request, old = live.request(small.archive), live.state()
    restore(request)
    new = live.state()
    as_version_1_wrote_it(live.state_dir / f"{request.restore_id}.json")

    assert survey_journals(live.state_dir, live.source()).problems == []
    undo(live.state_dir, request.restore_id, live.source())
    assert live.state() == old
    as_version_1_wrote_it(live.state_dir / f"{request.restore_id}.json")
    undo(live.state_dir, request.restore_id, live.source())
    assert live.state() == new
    as_version_1_wrote_it(live.state_dir / f"{request.restore_id}.json")
    discard(live.state_dir, request.restore_id, live.source())
    assert live.remains() == []


@pytest.mark.parametrize(("wanted", "abandoned"), [("new", False), ("old", True)])
def test_a_swap_that_an_older_version_left_half_done_is_ended_and_leaves_nothing_behind(
    small: Pristine, live: Live, wanted: str, abandoned: bool
) -> None:
    request, old = live.request(small.archive), live.state()
    restore(request)
    new = live.state()
    path = live.state_dir / f"{request.restore_id}.json"
    as_version_1_wrote_it(path, step="exchanging", wanted=wanted, abandoned=abandoned)

    recover(live.state_dir, live.source())

    assert live.state() == (old if abandoned else new)
    if not abandoned:
        discard(live.state_dir, request.restore_id, live.source())
    assert live.remains() == []


def test_folders_are_known_again_after_a_reboot_that_gave_their_disk_another_number(small: Pristine, live: Live) -> None:
    request = live.request(small.archive)
    old = live.state()
    restore(request)
    path = live.state_dir / f"{request.restore_id}.json"
    values = json.loads(path.read_text())
    for name in ("new_inode", "old_inode"):
        values["folder"][name][0] += 7
    write_down(path, values)

    undo(live.state_dir, request.restore_id, live.source())

    assert live.state() == old
    discard(live.state_dir, request.restore_id, live.source())
    assert live.remains() == []
