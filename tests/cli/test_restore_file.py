"""`flask backup restore --file`, and the way back from it, on a machine that has neither settings nor services."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.config import Settings
from app.engine.backup.backup import BackupRequest, make_backup
from app.engine.source.preflight import Source
from tests.support.application import alone
from tests.support.databases import SourceDatabase
from tests.support.foreign_archives import made_by_hand
from tests.support.live_state import change_everything, leftovers, live_state


@pytest.fixture
def archive(settings: Settings, source_db: SourceDatabase, documents_dir: Path, storage_dir: Path) -> Path:
    """An archive of the source, which has changed since."""
    source = Source(source_db.url, documents_dir, "motovaultpro", source_db.bin_dir)
    made: Path = make_backup(BackupRequest(source, storage_dir, settings.signing_key, uuid.uuid4())).path
    change_everything(source_db, documents_dir)
    return made


@pytest.fixture
def password(source_db: SourceDatabase, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The environment that knows the password, in one of libpq's two ways."""
    if request.param == "PGPASSWORD":
        yield {"PGPASSWORD": source_db.password}
        return
    file = tmp_path / "passwords"
    file.write_text(f"*:*:*:*:{source_db.password}\n")
    file.chmod(0o600)
    yield {"PGPASSFILE": str(file)}


def without_password(source: SourceDatabase) -> str:
    """Return a source's URL without the password."""
    url = source.url.replace(f":{source.password}@", "@")
    assert urlsplit(url).password is None
    return url


@pytest.mark.parametrize("password", ["PGPASSWORD", "PGPASSFILE"], indirect=True)
def test_a_restore_from_a_file_is_undone_redone_and_its_kept_state_discarded(
    archive: Path, settings: Settings, source_db: SourceDatabase, documents_dir: Path, password: dict[str, str]
) -> None:
    changed = live_state(source_db, documents_dir)
    place = ["--to", without_password(source_db), "--documents", str(documents_dir)]
    known = {**password, "BACKUP_SIGNING_KEY": settings.signing_key_text}
    done = alone("backup", "restore", "--file", str(archive), *place, "--yes", **known)
    assert done.returncode == 0, done.stderr
    restored = live_state(source_db, documents_dir)
    assert restored != changed
    database, folder = leftovers(source_db, documents_dir)[0], f".{documents_dir.name}_restore_"
    kept = re.search(r"^kept      database (\S+), documents (\S+)$", done.stdout, re.M)
    assert kept, done.stdout
    assert kept[1] == database
    assert folder in kept[2]
    assert (Path(kept[2]) / "later.txt").is_file()
    printed = re.search(r"^undo      flask (.+)$", done.stdout, re.M)
    assert printed, done.stdout

    undone = alone(*printed[1].split(), **password)
    assert undone.returncode == 0, undone.stderr
    assert "The state before the restore is live again" in undone.stdout
    assert live_state(source_db, documents_dir) == changed
    again = alone("backup", "undo", *place, **password)
    assert again.returncode == 0, again.stderr
    assert live_state(source_db, documents_dir) == restored

    refused = alone("backup", "discard", *place, **password)
    assert refused.returncode == 1, "nobody said yes"
    dropped = alone("backup", "discard", *place, "--yes", **password)
    assert dropped.returncode == 0, dropped.stderr
    assert live_state(source_db, documents_dir) == restored
    assert leftovers(source_db, documents_dir) == [f".{documents_dir.name}_restores"]
    assert list((documents_dir.parent / f".{documents_dir.name}_restores").iterdir()) == []
    nothing = alone("backup", "undo", *place, **password)
    assert (nothing.returncode, "No restore from a file keeps a state" in nothing.stderr) == (1, True)


@pytest.mark.parametrize("password", ["PGPASSWORD"], indirect=True)
def test_one_of_several_kept_states_is_chosen_by_its_id(
    archive: Path, settings: Settings, source_db: SourceDatabase, documents_dir: Path, password: dict[str, str]
) -> None:
    place = ["--to", without_password(source_db), "--documents", str(documents_dir)]
    known = {**password, "BACKUP_SIGNING_KEY": settings.signing_key_text}
    for _ in range(2):
        assert alone("backup", "restore", "--file", str(archive), *place, "--yes", **known).returncode == 0
    which = alone("backup", "undo", *place, **password)
    assert (which.returncode, "Several restores" in which.stderr) == (1, True)
    last, first = re.findall(r"^([0-9a-f-]{36})  database", which.stderr, re.M)
    older = alone("backup", "undo", first, *place, **password)
    assert (older.returncode, "Undo that one first" in older.stderr) == (1, True)
    for one in (last, first):
        assert alone("backup", "discard", one, *place, "--yes", **password).returncode == 0
    assert leftovers(source_db, documents_dir) == [f".{documents_dir.name}_restores"]


@pytest.mark.parametrize("password", ["PGPASSWORD"], indirect=True)
def test_an_archive_made_by_hand_is_restored_in_the_sandbox_without_a_password_in_the_url(
    source_db: SourceDatabase, settings: Settings, tmp_path: Path, password: dict[str, str]
) -> None:
    archive, documents = tmp_path / "by hand.tar.gz", tmp_path / "documents of another place"
    archive.write_bytes(made_by_hand())
    place = ["--to", without_password(source_db), "--documents", str(documents)]
    done = alone("backup", "restore", "--file", str(archive), *place, "--yes", **password)
    assert done.returncode == 0, done.stderr
    assert (documents / "7" / "title.txt").read_bytes() == b"a title"
    assert "public.vehicles: 2 rows" in done.stdout
    assert alone("backup", "discard", *place, "--yes", **password).returncode == 0
    assert (
        "PGPASSFILE"
        in alone("backup", "restore", "--help", **{"SECRET_KEY": "x"}).stdout
        + alone("backup", "undo", "--documents", "x", "--help").stdout
    )


def test_undo_of_a_file_says_what_it_needs(tmp_path: Path) -> None:
    missing = alone("backup", "undo", "--documents", str(tmp_path))
    assert (missing.returncode, "--to URL" in missing.stderr) == (2, True)
