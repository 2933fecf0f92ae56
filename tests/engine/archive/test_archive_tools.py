"""An archive needs no program of ours: every usual tool tests it, lists it and extracts what was in the source."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from tests.support.archives import APP, Archive, backup, borders, picture
from tests.support.databases import SourceDatabase, fresh_database, psql
from tests.support.documents import write_documents

EXTRACTORS = {
    "tar": ["tar", "xpzf", "{archive}", "-C", "{folder}"],
    "tar | gzip": ["sh", "-c", 'gzip -dc "$1" | tar xpf - -C "$2"', "sh", "{archive}", "{folder}"],
    "tar | pigz": ["sh", "-c", 'pigz -dc "$1" | tar xpf - -C "$2"', "sh", "{archive}", "{folder}"],
    "bsdtar": ["bsdtar", "xpzf", "{archive}", "-C", "{folder}"],
    "busybox": ["busybox", "tar", "xpzf", "{archive}", "-C", "{folder}"],
}
LISTERS = {
    "tar": ["tar", "tzf", "{archive}"],
    "bsdtar": ["bsdtar", "tzf", "{archive}"],
    "busybox": ["busybox", "tar", "tzf", "{archive}"],
}


def _run(command: list[str], archive: Path, folder: Path) -> str:
    tools = [command[0]] + [word for word in ("pigz",) if word in " ".join(command)]
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    filled = [part.format(archive=archive, folder=folder) if part.startswith("{") else part for part in command]
    umask = 0 if command[0] == "busybox" else -1  # its -p does not save a folder's mode from the umask
    done = subprocess.run(filled, capture_output=True, text=True, timeout=60, umask=umask)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def rich_archive(small_database: SourceDatabase, tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """An archive of documents with unusual modes, times, owners, an empty and a read-only folder, links, a large file."""
    folder = tmp_path_factory.mktemp("rich")
    documents, storage = folder / "documents", folder / "backups"
    documents.mkdir(mode=0o750)
    storage.mkdir(mode=0o700)
    write_documents(documents, users=2)
    home = documents / "1"
    for name, mode in (("script.sh", 0o755), ("secret.txt", 0o400), ("nothing.bin", 0o644)):
        (home / name).write_bytes(b"" if name == "nothing.bin" else name.encode() * 100)
        (home / name).chmod(mode)
    (home / "large.bin").write_bytes(os.urandom(5_000_000) + bytes(5_000_000))
    (home / "old.txt").write_text("from 1969")
    os.utime(home / "old.txt", ns=(-(10**9), -86_400 * 10**9))
    os.utime(home / "script.sh", ns=(0, 4_102_444_800 * 10**9 + 123_456_789))
    (home / "deep" / "deeper").mkdir(parents=True)
    (home / "deep" / "deeper" / "up.txt").symlink_to("../../invoice-0.txt")
    (home / "deep" / "folder").symlink_to("deeper")
    (home / "dangling.txt").symlink_to("not there")
    if os.geteuid() == 0:
        os.chown(home / "script.sh", 12_345, 54_321)
        os.chown(home / "deep", 3_000_000, 3_000_000)
    (home / "deep").chmod(0o1770)
    os.utime(home / "empty", ns=(0, 1_500_000_000 * 10**9))
    os.utime(documents, ns=(0, 1_600_000_000 * 10**9))
    result = backup(small_database.url, documents, storage)
    assert result.warnings == []
    return Archive(result.path, documents, result)


@pytest.mark.parametrize("tool", ["gzip", "pigz"])
def test_gzip_and_pigz_find_no_fault(small_archive: Archive, tool: str) -> None:
    _run([tool, "-t", "{archive}"], small_archive.path, small_archive.path)


def test_every_member_is_within_the_limits_of_gzip_and_unpacks_to_one_tar(small_archive: Archive) -> None:
    data = small_archive.path.read_bytes()
    assert len(borders(data)) > 5
    assert len(gzip.decompress(data)) % 512 == 0


@pytest.mark.parametrize("tool", LISTERS)
def test_the_layout_is_as_specified(small_archive: Archive, tool: str) -> None:
    names = _run(LISTERS[tool], small_archive.path, small_archive.path).splitlines()
    assert names[:3] == ["database/", f"database/{APP}.sql.gz", "documents/"]
    assert names[-2:] == ["documents.index.jsonl", "manifest.json"]
    assert len(names) == len(set(names))
    assert {name.rstrip("/") for name in names if name.startswith("documents/")} == {
        "documents" if path == b"." else f"documents/{path.decode()}" for path in picture(small_archive.documents)
    }


@pytest.mark.parametrize("tool", EXTRACTORS)
def test_what_is_extracted_is_what_was_in_the_source(rich_archive: Archive, tmp_path: Path, tool: str) -> None:
    _run(EXTRACTORS[tool], rich_archive.path, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["database", "documents", "documents.index.jsonl", "manifest.json"]
    expected, found = picture(rich_archive.documents), picture(tmp_path / "documents")
    if tool == "busybox":  # it gives folders the time of the extraction
        expected, found = (_without_folder_times(entries) for entries in (expected, found))
    assert found == expected


def _without_folder_times(entries: dict[bytes, tuple[object, ...]]) -> dict[bytes, tuple[object, ...]]:
    return {path: facts if facts[4] is not None else (*facts[:3], None, None) for path, facts in entries.items()}


def test_pythons_tarfile_reads_it_entry_by_entry(rich_archive: Archive, tmp_path: Path) -> None:
    with tarfile.open(rich_archive.path, "r:gz") as archive:
        for member in archive:
            if member.isreg():
                file = archive.extractfile(member)
                assert file is not None
                assert len(file.read()) == member.size
        # Python 3.11.4 has brought the filters, later versions want one to be named.
        archive.extractall(tmp_path, **({"filter": "fully_trusted"} if hasattr(tarfile, "fully_trusted_filter") else {}))
    assert picture(tmp_path / "documents") == picture(rich_archive.documents)


def test_index_and_manifest_extracted_by_tar_are_plain_json(rich_archive: Archive, tmp_path: Path) -> None:
    _run(EXTRACTORS["tar"], rich_archive.path, tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    lines = [json.loads(line) for line in (tmp_path / "documents.index.jsonl").read_text().splitlines()]
    assert manifest["format"] == 1
    assert [line["path"] for line in lines if line["path"]] == sorted(
        (path.decode() for path in picture(rich_archive.documents) if path != b"."), key=lambda path: path.split("/")
    )
    by_path = {line["path"]: line for line in lines}
    assert by_path["1/script.sh"]["mtime_ns"] == (rich_archive.documents / "1" / "script.sh").stat().st_mtime_ns
    assert (tmp_path / f"database/{APP}.sql.gz").stat().st_size == manifest["database"]["size_bytes"]


def test_zcat_and_psql_restore_the_database(small_archive: Archive, pg18: EmbeddedPostgres, tmp_path: Path) -> None:
    _run(EXTRACTORS["tar"], small_archive.path, tmp_path)
    with fresh_database(pg18) as url:
        psql(pg18.bin_dir, url, gzip.decompress((tmp_path / f"database/{APP}.sql.gz").read_bytes()))
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT count(*), max(name) FROM vehicles").fetchone() == (500, "vehicle 99")


def test_the_archive_can_be_read_by_its_owner_only(small_archive: Archive) -> None:
    assert small_archive.path.stat().st_mode & 0o7777 == 0o600
