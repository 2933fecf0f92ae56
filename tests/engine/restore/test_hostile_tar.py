"""Hostile tar streams: refused with the reason, quickly, in little memory, with nothing written anywhere."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.errors import EngineError
from app.engine.proof.check_archive import check_archive
from app.engine.restore.restore import restore
from app.engine.restore.swap import discard
from app.engine.source.preflight import Source
from tests.support.archives import KEY
from tests.support.hostile import Member, bomb, dump_member, dump_of, entry, folder, link, tar_bytes, write_archive
from tests.support.restoring import Live, documents_in, pristine

SQL = dump_member(dump_of())
TOP = [folder("database/"), SQL, folder("documents/")]
DEVICES = {"character device": tarfile.CHRTYPE, "block device": tarfile.BLKTYPE, "pipe": tarfile.FIFOTYPE}


def header_with(field: slice, value: bytes, name: str = "documents/x") -> bytes:
    """Return a header with raw bytes in a field and a correct checksum."""
    block = bytearray(entry(name)[0].tobuf(tarfile.GNU_FORMAT))
    block[field] = value.ljust(field.stop - field.start, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(fields: bytes, of: bytes) -> bytes:
    """Return a pax header with raw records, followed by a header."""
    info, _ = entry("pax", fields, kind=tarfile.XHDTYPE)
    return tar_bytes([(info, fields)], end=False) + of


def record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    size = len(body) + 1
    while len(b"%d" % size) + len(body) != size:
        size += 1
    return b"%d" % size + body


SIZE, TYPE = slice(124, 136), slice(156, 157)
BASE_256 = b"\x80" + b"\0" * 3
RAW = {
    "a header of 10 PB": (header_with(SIZE, BASE_256 + (10 * 10**15).to_bytes(8, "big")), "cut short"),
    "a size beyond 64 bits": (header_with(SIZE, b"\xbf" + b"\xff" * 11), "cut short|impossible|damaged"),
    "a negative size": (header_with(SIZE, b"\xff" * 11 + b"\0"), "impossible size"),
    "a negative long name": (
        header_with(SIZE, b"\xff" * 11 + b"\0", "././@LongLink")[:156] + b"L" + bytes(355),
        "damaged|which no document needs",
    ),
    "a long name of 1 GB": (
        tar_bytes([(entry("././@LongLink", b"x", kind=tarfile.GNUTYPE_LONGNAME, size=10**9)[0], b"")], end=False),
        "which no document needs",
    ),
    "a pax header of 1 GB": (
        tar_bytes([(entry("pax", kind=tarfile.XHDTYPE, size=10**9)[0], b"")], end=False),
        "which no document needs",
    ),
    "a pax size that is no number": (pax(record(b"size", b"9" * 5000), entry("documents/x")[0].tobuf()), "bad number"),
    "a negative pax size": (pax(record(b"size", b"-5"), entry("documents/x")[0].tobuf()), "impossible size"),
    "a pax time without end": (pax(record(b"mtime", b"1e400"), entry("documents/x")[0].tobuf()), "bad number"),
    "a pax record longer than its header": (pax(b"999 path=x\n", entry("documents/x")[0].tobuf()), "bad pax header"),
    "a pax record of no length": (pax(b"0 path=x\n", entry("documents/x")[0].tobuf()), "bad pax header"),
    "a pax name that leads out": (pax(record(b"path", b"documents/../../x"), entry("documents/x")[0].tobuf()), "name"),
    "NUL in a pax name": (pax(record(b"path", b"documents/a\0b"), entry("documents/x")[0].tobuf()), "name"),
    "a sparse pax file": (pax(record(b"GNU.sparse.major", b"1"), entry("documents/x")[0].tobuf()), "sparse"),
    "pax headers without end": (pax(record(b"comment", b"x"), b"") * 5000, "too many headers"),
    "a bad checksum": (b"x" * 512, "damaged"),
    "an unknown type": (header_with(TYPE, b"Z"), "unknown type|file"),
}
MEMBERS: dict[str, tuple[list[Member], str]] = {
    "traversal": ([entry("documents/../../outside", b"x")], "name"),
    "traversal in front": ([entry("../documents/x", b"x")], "name"),
    "an absolute name": ([entry("/tmp/outside", b"x")], "name"),
    "an absolute name below": ([entry("documents//tmp/x", b"x")], "name"),
    "a name that is a dot": ([entry("documents/./x", b"x")], "name"),
    "a link out": ([link("documents/x", "../../outside")], "leads out"),
    "an absolute link": ([link("documents/x", "/etc/passwd")], "leads out"),
    "a link to the folder above": ([link("documents/x", "..")], "leads out"),
    "a link through a link": ([link("documents/here", "."), link("documents/x", "here/../../outside")], "leads out"),
    "a file through a link": ([link("documents/l", "1"), entry("documents/l/x", b"x")], "below a link"),
    "a file through a link that came later": ([entry("documents/l/x", b"x"), link("documents/l", "1")], "twice"),
    "a hard link": ([entry("documents/a", b"x"), link("documents/b", "documents/a", tarfile.LNKTYPE)], "hard link"),
    "a hard link out": ([link("documents/b", "/etc/passwd", tarfile.LNKTYPE)], "hard link"),
    "the same name twice": ([entry("documents/a", b"x"), entry("documents/a", b"y")], "twice"),
    "the same name twice, dotted": ([entry("documents/a", b"x"), entry("./documents/a", b"y")], "twice"),
    "a file and a folder of one name": ([entry("documents/a", b"x"), folder("documents/a/")], "twice"),
    "a file below a file": ([entry("documents/a", b"x"), entry("documents/a/b", b"y")], "below a link or a file"),
    "two dumps": ([dump_member(dump_of(), "other")], "more than one dump"),
    "an unknown top name": ([entry("etc/passwd", b"x")], "only database"),
    "a file beside": ([entry("readme.txt", b"x")], "only database"),
    "an unknown file in database": ([entry("database/app.dump", b"x")], "only database"),
    "a sparse file": ([entry("documents/s", kind=tarfile.GNUTYPE_SPARSE)], "sparse"),
    "a contiguous file": ([entry("documents/s", kind=tarfile.CONTTYPE)], "contiguous"),
    "a very long name": ([entry("documents/" + "x" * 300, b"x")], "name"),
    "a very deep name": ([entry("documents/" + "x/" * 16384 + "x", b"x")], "name"),
    **{what: ([entry("documents/d", kind=kind)], "device|pipe") for what, kind in DEVICES.items()},
}
INSTEAD: dict[str, tuple[list[Member], str]] = {
    "a file where documents must be": ([SQL, entry("documents", b"x")], "only database"),
    "a link where documents must be": ([SQL, link("documents", "/etc")], "only database"),
    "a link where database must be": ([link("database", "/etc"), folder("documents/")], "only database|leads out"),
    "a link where the dump must be": ([link("database/app.sql.gz", "/etc/passwd"), folder("documents/")], "only|leads out"),
    "no dump": ([folder("database/"), folder("documents/"), entry("documents/a", b"x")], "no dump"),
}


@pytest.fixture(scope="module")
def live(pg18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A live pair that no hostile archive changes."""
    folder = tmp_path_factory.mktemp("hostile")
    with pristine(pg18, tmp_path_factory.mktemp("pristine"), b"SELECT 1") as made, made.live(folder) as live:
        before = live.state()
        yield live
        assert live.state() == before
        assert live.remains() == []


@pytest.fixture
def refused(live: Live, tmp_path: Path) -> Callable[[Path, str], None]:
    def check(archive: Path, reason: str) -> None:
        around = set(os.listdir(live.documents.parent.parent)) | set(os.listdir(live.documents.parent))
        began = time.monotonic()
        with pytest.raises(EngineError, match=reason):
            restore(live.request(archive))
        assert time.monotonic() - began < 10
        assert set(os.listdir(live.documents.parent.parent)) | set(os.listdir(live.documents.parent)) <= {
            *around,
            ".restores",
        }
        assert live.remains() == []

    return check


@pytest.mark.parametrize("what", MEMBERS)
def test_a_hostile_member(refused: Callable[[Path, str], None], tmp_path: Path, what: str) -> None:
    members, reason = MEMBERS[what]
    refused(write_archive(tmp_path / "hostile.tar.gz", [*TOP, *members]), reason)


@pytest.mark.parametrize("what", INSTEAD)
def test_a_hostile_layout(refused: Callable[[Path, str], None], tmp_path: Path, what: str) -> None:
    members, reason = INSTEAD[what]
    refused(write_archive(tmp_path / "hostile.tar.gz", members), reason)


@pytest.mark.parametrize("what", RAW)
def test_a_hostile_header(refused: Callable[[Path, str], None], tmp_path: Path, what: str) -> None:
    raw, reason = RAW[what]
    path = tmp_path / "hostile.tar.gz"
    path.write_bytes(gzip.compress(tar_bytes(TOP, end=False) + raw + tar_bytes([entry("documents/after", b"x")])))
    assert not check_archive(path, KEY).ok
    refused(path, reason)


def test_modes_that_give_rights_are_taken_away(live: Live, tmp_path: Path) -> None:
    members = [*TOP, entry("documents/run", b"#!/bin/sh", mode=0o6755), folder("documents/sticky", mode=0o7777)]
    archive = write_archive(tmp_path / "modes.tar.gz", members)
    fresh = live.documents.with_name("fresh")
    target = live.request(archive, scope="documents")
    target = type(target)(**{**target.__dict__, "target": Source(live.url, fresh, "x")})
    restore(target)
    discard(live.state_dir, target.restore_id, target.target)
    modes = {name: oct(facts[0] & 0o7777) for name, facts in documents_in(fresh).items()}
    assert (modes["run"], modes["sticky"]) == ("0o755", "0o777")
    subprocess.run(["rm", "-r", fresh], check=True)


def many_members(path: Path, count: int) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(tar_bytes(TOP, end=False))
        for number in range(count):
            file.write(entry(f"documents/{number:07d}.txt")[0].tobuf(tarfile.USTAR_FORMAT))
        file.write(bytes(1024))


def big_member(path: Path, content: bytes, name: str, size: int) -> None:
    """Write an archive whose packed parts are stored one behind the other, so that a bomb need not be unpacked here."""
    info, _ = entry(name, size=size)
    path.write_bytes(gzip.compress(tar_bytes(TOP, end=False) + info.tobuf(tarfile.GNU_FORMAT), 1) + content)


def sql_bomb(path: Path) -> None:
    packed = bomb(300 * 1024**2)
    write_archive(path, [folder("database/"), entry("database/app.sql.gz", packed), folder("documents/")])


HUNGRY: dict[str, tuple[Callable[[Path], None], str]] = {
    "a bomb of documents": (
        lambda path: big_member(path, bomb(300 * 1024**2), "documents/b", 300 * 1024**2),
        "decompression bomb",
    ),
    "a bomb of SQL": (sql_bomb, "longer than"),
    "a long statement": (
        lambda path: (
            write_archive(path, [folder("database/"), dump_member(b"SELECT '" + os.urandom(40_000_000).hex().encode())])
            and None
        ),
        "longer than",
    ),
    "a million members": (lambda path: many_members(path, 600_000), "500000 entries"),
}
_CHILD = r"""
import json, re, sys
from pathlib import Path
from uuid import uuid4
from app.engine.errors import EngineError
from app.engine.proof.check_archive import check_archive
from app.engine.restore.request import RestoreRequest
from app.engine.restore.restore import restore
from app.engine.source.preflight import Source
order = json.loads(sys.stdin.read())
problems = check_archive(Path(order["archive"]), b"key").problems
request = RestoreRequest(Path(order["archive"]), Source(order["url"], Path(order["documents"]), "x"), Path(order["state"]),
                         b"key", uuid4(), disk_reserve=0)
try:
    restore(request)
    error = ""
except EngineError as refusal:
    error = str(refusal)
# ru_maxrss would count what the parent took before it started us.
peak = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
print(json.dumps([problems, error, peak // 1024]))
"""


@pytest.mark.parametrize(
    "what", [pytest.param(w, marks=pytest.mark.heavy if w == "a million members" else ()) for w in HUNGRY]
)
def test_a_hungry_archive_is_refused_in_little_memory(live: Live, tmp_path: Path, what: str) -> None:
    make, reason = HUNGRY[what]
    path = tmp_path / "hungry.tar.gz"
    make(path)
    order = {"archive": str(path), "url": live.url, "documents": str(live.documents), "state": str(live.state_dir)}
    began = time.monotonic()

    done = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=json.dumps(order),
        capture_output=True,
        text=True,
        timeout=250,
        cwd=Path(__file__).parents[3],
    )

    assert done.returncode == 0, done.stderr
    problems, error, megabytes = json.loads(done.stdout)
    assert len(problems) == 1
    assert reason in problems[0]
    assert reason in error
    assert megabytes < 300, f"{megabytes} MB"
    assert time.monotonic() - began < (240 if what == "a million members" else 60)
