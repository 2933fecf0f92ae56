"""What may lie in a documents folder: strange names, links, things that are no files, what can't be read."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.engine.archive.reader import open_archive
from app.engine.backup.backup import BackupResult
from app.engine.backup.documents_packing import index_line
from app.engine.source import documents
from app.engine.verify.verify import verify_archive
from tests.support.archives import APP, KEY, backup, leftovers, picture
from tests.support.databases import SourceDatabase

Backup = Callable[[], BackupResult]
ROOT = Path(__file__).resolve().parents[3]
NAMES = [
    b"with space.txt",
    b" leading and trailing ",
    b"new\nline.txt",
    b"tab\tand\rreturn",
    b"escape\x1b[31m",
    b"latin1-\xe9\xff.txt",
    b"half-a-character-\xc3",
    b"surrogate-\xed\xa0\x80",
    "ünïcødé-漢字-🚗.txt".encode(),
    "decomposed-e\u0301".encode(),
    b"quote'\"`$(x);&|<>*?[]{}\\",
    b"-rf",
    b"--help",
    b"~",
    b"...",
    b"a" * 99,
    b"b" * 100,
    b"c" * 101,
    b"d" * 255,
]


@pytest.fixture
def make(small_database: SourceDatabase, documents_dir: Path, storage_dir: Path) -> Backup:
    """Backs up `documents_dir`, verifies the published file once more and looks for leftovers."""

    def backed_up() -> BackupResult:
        result = backup(small_database.url, documents_dir, storage_dir)
        assert verify_archive(result.path, KEY).problems == []
        assert leftovers(storage_dir) == []
        return result

    return backed_up


def _extracted(result: BackupResult, folder: Path) -> Path:
    folder.mkdir()
    done = subprocess.run(["tar", "xzf", result.path, "-C", folder], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder / "documents"


def _stored(result: BackupResult) -> set[str]:
    with open_archive(result.path) as reader:
        return {json.loads(line)["path"] for line in reader.index_lines()}


def test_names_of_any_bytes_are_stored_and_extracted(make: Backup, documents_dir: Path, tmp_path: Path) -> None:
    root = os.fsencode(documents_dir)
    for name in NAMES:
        with open(os.path.join(root, name), "wb") as file:
            file.write(name * 3)
        os.makedirs(os.path.join(root, b"folders", name))
        os.symlink(name, os.path.join(root, b"folders", name, b"link \n\xff"))
    result = make()
    assert result.warnings == []
    assert picture(_extracted(result, tmp_path / "out")) == picture(documents_dir)


@pytest.mark.parametrize("length", [101, 256, 1000, 3000])
def test_long_paths_and_link_targets_are_stored_and_extracted(
    make: Backup, documents_dir: Path, tmp_path: Path, length: int
) -> None:
    path = documents_dir
    while len(str(path.relative_to(documents_dir))) < length:
        path = path / ("long-folder-name-" * 10)
    path.mkdir(parents=True)
    (path / "document.txt").write_text("at the end of a long path")
    (path / "link").symlink_to("./" * (length // 2) + "document.txt")
    result = make()
    assert result.warnings == []
    assert picture(_extracted(result, tmp_path / "o")) == picture(documents_dir)


def test_links_out_of_the_tree_are_reported_and_not_followed(make: Backup, documents_dir: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text("not to be stored")
    beside = documents_dir.with_name(documents_dir.name + "-beside")
    beside.mkdir()
    links = {
        "relative": "../outside/secret.txt",
        "absolute": str(outside / "secret.txt"),
        "folder": "../outside",
        "1/by-another": "../folder/secret.txt",
        "1/by-two": "by-another",
        "root": "/",
        "parent": "..",
        "same-prefix": f"../{beside.name}",
        "out-to-nothing": "../nothing-here",
        "absolute-inside": str(documents_dir / "1"),
    }
    for name, target in links.items():
        (documents_dir / name).symlink_to(target)
    inner = {"inner": "1/invoice-0.txt", "inner-folder": "1", "1/back": "../2/invoice-0.txt", "loop": "loop", "self": "."}
    for name, target in inner.items():
        (documents_dir / name).symlink_to(target)
    result = make()
    assert sorted(warning.partition(":")[0] for warning in result.warnings) == sorted(links)
    assert all("leads out of the documents folder" in warning for warning in result.warnings)
    assert _stored(result).isdisjoint(links)
    assert _stored(result).issuperset(inner)
    documents = _extracted(result, tmp_path / "out")
    assert {name: os.readlink(documents / name) for name in inner} == inner
    assert not any("secret" in name for name in _stored(result))


def test_pipes_sockets_and_devices_are_reported_without_waiting_for_them(make: Backup, documents_dir: Path) -> None:
    os.mkfifo(documents_dir / "pipe")
    server = socket.socket(socket.AF_UNIX)
    here = os.open(documents_dir, os.O_RDONLY)
    try:
        server.bind(f"/proc/self/fd/{here}/socket" if sys.platform == "linux" else str(documents_dir / "socket"))
        result = make()
    finally:
        server.close()
        os.close(here)
    assert sorted(result.warnings) == [
        f"{name}: neither a file, a folder nor a link; it is not in this backup." for name in ("pipe", "socket")
    ]
    assert _stored(result).isdisjoint({"pipe", "socket"})


def test_warnings_are_single_lines_without_control_characters(make: Backup, documents_dir: Path) -> None:
    for name in (b"pipe\n\x1b[31m\r\x07", b"pipe\xff", "pipe\u202etxt".encode(), b"pipe\x7f\xc2\x85"):
        os.mkfifo(os.path.join(os.fsencode(documents_dir), name))
    warnings = make().warnings
    assert len(warnings) == 4
    assert all(warning.isprintable() for warning in warnings), warnings
    assert any(r"pipe\xff" in warning for warning in warnings)


def test_documents_that_may_not_be_read_are_reported(
    small_database: SourceDatabase, documents_dir: Path, storage_dir: Path, tmp_path: Path
) -> None:
    (documents_dir / "1" / "invoice-0.txt").chmod(0)
    (documents_dir / "2").chmod(0)
    request = {
        "url": small_database.url,
        "documents": str(documents_dir),
        "storage": str(storage_dir),
        "bin": str(small_database.bin_dir),
        "user": 65_534 if os.geteuid() == 0 else None,
    }
    try:
        if os.geteuid() == 0:
            _give_to_nobody(tmp_path, documents_dir, storage_dir)
        done = subprocess.run(
            [sys.executable, "-c", _AS_ANOTHER], input=json.dumps(request), capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 0, done.stderr
    finally:
        (documents_dir / "2").chmod(0o700)
    answer = json.loads(done.stdout)
    assert sorted(answer["warnings"]) == [
        "1/invoice-0.txt: it could not be read (Permission denied); it is not in this backup.",
        "2: it could not be read (Permission denied); it is not in this backup.",
    ]
    [archive] = storage_dir.glob(f"{APP}*.tar.gz")
    assert verify_archive(archive, KEY).ok
    with open_archive(archive) as reader:
        stored = {json.loads(line)["path"] for line in reader.index_lines()}
    assert "1/note-2.md" in stored
    assert not any(path.startswith("2") or path == "1/invoice-0.txt" for path in stored)


_AS_ANOTHER = """
import json, os, sys
from pathlib import Path
from uuid import uuid4
import app.engine.backup, encodings.idna  # imported while everything can still be read
from app.engine.backup.backup import BackupRequest, make_backup
from app.engine.source.preflight import Source

given = json.load(sys.stdin)
if given["user"] is not None:
    os.setgroups([])
    os.setresgid(given["user"], given["user"], given["user"])
    os.setresuid(given["user"], given["user"], given["user"])
source = Source(given["url"], Path(given["documents"]), "motovaultpro", Path(given["bin"]))
request = BackupRequest(source, Path(given["storage"]), b"a signing key for the tests", uuid4(), disk_reserve=0)
print(json.dumps({"warnings": make_backup(request).warnings}))
"""


def _give_to_nobody(top: Path, *folders: Path) -> None:
    for parent in (top, *top.parents):
        if parent == Path("/tmp") or parent == Path("/"):
            break
        parent.chmod(parent.stat().st_mode | 0o011)
    for folder in folders:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, 65_534, 65_534, follow_symlinks=False)


@pytest.mark.parametrize("kind", ["file", "folder", "symlink"])
def test_a_line_of_the_index_is_json_whatever_the_names(kind: str) -> None:
    odd = 'a "quoted" \\ name\n\t\x7f, é, 🏍 and \udcff'
    entry = documents.Document(f"{odd}/{odd}", kind, 7, 0o640, 1_700_000_000_123_456_789, 0, 4_000_000_000, odd)
    line = json.loads(index_line(entry, "0f" * 32, 512).complete(4096))
    facts = {"path": entry.path, "kind": kind, "mode": 0o640, "mtime_ns": entry.mtime_ns, "uid": 0, "gid": entry.gid}
    of_kind = {"file": {"size": 7, "sha256": "0f" * 32}, "folder": {}, "symlink": {"target": odd}}
    assert line == {**facts, "user": "root", "group": "", **of_kind[kind], "member": 4096, "skip": 512}
