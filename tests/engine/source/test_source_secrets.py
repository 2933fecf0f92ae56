"""The password of the source is nowhere to be seen: argv, environment, files, archive, manifest, errors, output."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import pytest
from psycopg import sql

from app.engine.archive.reader import open_archive
from app.engine.backup import dump, parallel_dump
from app.engine.backup.backup import BackupRequest, make_backup
from app.engine.dump.dump_splitter import DumpSplitter, Event
from app.engine.source.preflight import Source
from tests.support.archives import KEY
from tests.support.databases import SourceDatabase
from tests.support.dumping import dumpers, unpack

SECRET = "Sw0rdf1sh-never-shown"


@pytest.fixture
def secret_source(source_db: SourceDatabase, documents_dir: Path) -> Source:
    """A source whose password can't be mistaken for anything else."""
    with psycopg.connect(source_db.admin_url, autocommit=True) as connection:
        role = sql.Identifier(source_db.user)
        connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(SECRET)))
    url = source_db.server.url(source_db.name, source_db.user, SECRET)
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE bulk AS SELECT n, repeat(md5(n::text), 8) AS t FROM generate_series(1, 30000) n")
    return Source(url, documents_dir, "motovaultpro")


@pytest.mark.parametrize("threads", [2, 4])
def test_the_password_is_in_no_process_no_file_and_no_archive(
    secret_source: Source, storage_dir: Path, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_tmp = tmp_path / "tmp"
    own_tmp.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(own_tmp))
    monkeypatch.setattr(parallel_dump, "LARGE_TABLE_BYTES", 8192)
    request = BackupRequest(secret_source, storage_dir, KEY, uuid4(), disk_reserve=0, threads=threads)
    seen: list[str] = []
    holding: list[Path] = []
    feed = DumpSplitter.feed

    def look_then_feed(self: DumpSplitter, chunk: bytes) -> list[Event]:
        for process in dumpers(request.backup_id):
            try:
                seen.append(" ".join(process.cmdline()) + repr(process.environ()))
            except psutil.Error:  # it has just ended
                continue
        for path in own_tmp.rglob("*"):
            if path.is_file() and SECRET in path.read_text(errors="replace"):
                holding.append(path)
                assert path.stat().st_mode & 0o777 == 0o600
                assert path.parent.stat().st_mode & 0o777 == 0o700
        return feed(self, chunk)

    monkeypatch.setattr(DumpSplitter, "feed", look_then_feed)

    result = make_backup(request)

    assert any("pg_dump" in text for text in seen)
    assert not any(SECRET in text for text in seen)
    assert {path.name for path in holding} <= {"pgpass"}
    assert list(own_tmp.iterdir()) == []
    with open_archive(result.path, KEY) as reader:
        assert SECRET.encode() not in reader.manifest_text
        assert b"postgresql://" not in reader.manifest_text
    folder = unpack(result.path, tmp_path / "out")
    found = subprocess.run(["grep", "-rl", SECRET, folder], capture_output=True, check=False).stdout
    unzipped = subprocess.run(["gzip", "-dc", folder / "database" / "motovaultpro.sql.gz"], capture_output=True, check=True)
    assert found == b""
    assert SECRET.encode() not in unzipped.stdout
    assert result.path.stat().st_mode & 0o777 == 0o600


def test_the_command_line_of_pg_dump_names_no_password(
    secret_source: Source, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, lines = dump.command, []

    def noted(order: dump.DumpOrder, dsn: str) -> list[str]:
        lines.append(command(order, dsn))
        return lines[-1]

    monkeypatch.setattr(dump, "command", noted)

    make_backup(BackupRequest(secret_source, storage_dir, KEY, uuid4(), disk_reserve=0))

    assert lines
    assert not any(SECRET in argument for line in lines for argument in line)
    assert all("--no-password" in line for line in lines)


def test_a_failing_script_prints_no_password(secret_source: Source, storage_dir: Path) -> None:
    """The whole traceback of a backup that pg_dump refuses, as a log would hold it."""
    script = (
        "import sys; from pathlib import Path; from uuid import uuid4\n"
        "from app.engine.backup.backup import BackupRequest, make_backup; from app.engine.source.preflight import Source\n"
        "url, documents, storage = sys.stdin.read().split('\\n')\n"
        "import app.engine.backup.dump as dump; old = dump.command\n"
        "dump.command = lambda order, dsn: [*old(order, dsn), '--no-such-option']\n"
        "make_backup(BackupRequest(Source(url, Path(documents), 'a'), Path(storage), b'k', uuid4(), disk_reserve=0))\n"
    )
    given = "\n".join([secret_source.database_url, str(secret_source.documents_dir), str(storage_dir)])

    done = subprocess.run([sys.executable, "-c", script], input=given, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "pg_dump failed with exit code 1" in done.stderr
    assert "no-such-option" in done.stderr
    assert SECRET not in done.stderr + done.stdout
    assert list(storage_dir.iterdir()) == []


_TEN_LINES = """
import sys, uuid
from pathlib import Path
from app.engine.archive.reader import read_manifest
from app.engine.backup.backup import BackupRequest, make_backup
from app.engine.source.preflight import Source
from app.engine.storage.local import LocalStorage
from app.engine.verify.verify import verify_archive

url, documents, storage = sys.stdin.read().split("\\n")
request = BackupRequest(Source(url, Path(documents), "motovaultpro"), Path(storage), b"key", uuid.uuid4(), disk_reserve=0)
result = make_backup(request)
assert verify_archive(result.path, b"key").ok and LocalStorage(Path(storage)).archives() == [result.filename]
print(read_manifest(result.path, b"key").tables[0].rows, result.sha256)
"""

_BLOCKED = ("flask", "apiflask", "sqlalchemy", "flask_sqlalchemy", "redis", "rq", "rq_scheduler", "pydantic", "valkey")
_BLOCKER = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {_BLOCKED!r} or (name.startswith("app.") and not name.startswith("app.engine")):
            raise ImportError(f"{{name}} is not for the engine")

sys.meta_path.insert(0, Blocker())
"""


def test_a_ten_line_script_needs_no_flask_no_sqlalchemy_and_no_redis(secret_source: Source, storage_dir: Path) -> None:
    given = "\n".join([secret_source.database_url, str(secret_source.documents_dir), str(storage_dir)])

    done = subprocess.run(
        [sys.executable, "-c", _BLOCKER + _TEN_LINES],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
        env={name: value for name, value in os.environ.items() if not name.startswith("BACKUP_")},
    )

    assert done.stderr == ""
    assert done.returncode == 0
    rows, digest = done.stdout.split()
    assert rows == "30000"
    assert len(digest) == 64


def test_the_blocker_of_that_test_blocks() -> None:
    done = subprocess.run([sys.executable, "-c", _BLOCKER + "import flask"], capture_output=True, text=True, check=False)

    assert "flask is not for the engine" in done.stderr
