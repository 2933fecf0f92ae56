"""The guide's disaster recovery and its move to another host, typed as they stand there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from apiflask import APIFlask

from app.config import derive_signing_key
from app.demo.servers import EmbeddedPostgres
from tests.support.application import Processes
from tests.support.databases import SourceDatabase, fresh_database
from tests.support.guide import ROOT, blocks, section

pytestmark = pytest.mark.heavy


def typed(script: str, places: dict[str, str], stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Run lines of the guide, with its examples replaced, in a shell without any of our settings."""
    for example, here in places.items():
        script = script.replace(example, here)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {"PATH": path, "HOME": os.environ.get("HOME", "/"), "FLASK_APP": str(ROOT / "wsgi.py")}
    return subprocess.run(
        ["bash", "-ec", script], input=stdin, capture_output=True, text=True, env=kept | environment, cwd=ROOT, timeout=120
    )


@pytest.fixture
def archive(app: APIFlask, processes: Processes, worker: object, storage_dir: Path) -> Path:
    """An archive that the installation has made."""
    made = processes.run("backup", "create", "--wait", "--note", "before the move")
    assert made.returncode == 0, made.stderr
    (found,) = storage_dir.glob("*.tar.gz")
    return found


@pytest.fixture
def new_server(pg18: EmbeddedPostgres) -> Iterator[EmbeddedPostgres]:
    """A server on which the guide's statements for the recovery were executed."""
    statements = blocks("sql", section("Disaster recovery"))[0]
    with psycopg.connect(pg18.url(), autocommit=True) as connection:
        for statement in filter(str.strip, statements.split(";")):
            connection.execute(statement.encode())
        try:
            yield pg18
        finally:
            names = connection.execute(
                "SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = 'motovaultpro'"
            ).fetchall()
            for (name,) in names:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
            connection.execute(b"DROP ROLE motovaultpro")


def test_the_machine_is_gone_and_comes_back(
    archive: Path,
    new_server: EmbeddedPostgres,
    environment: dict[str, str],
    processes: Processes,
    documents_dir: Path,
    tmp_path: Path,
) -> None:
    look, restore, find_again, _in_compose = blocks("", section("Disaster recovery"))
    places = {
        "ARCHIVE": str(archive),
        "BACKUP_SIGNING_KEY=…": f"BACKUP_SIGNING_KEY={derive_signing_key(environment['SECRET_KEY'])}",
        "PGPASSWORD=…": "PGPASSWORD=choose-one",
        "127.0.0.1:5432": f"127.0.0.1:{new_server.port}",
        "/srv/motovaultpro": str(tmp_path / "srv"),
    }
    looked = typed(look, places)
    assert looked.returncode == 0, looked.stderr
    assert "vehicles" in looked.stdout
    exported = look.splitlines()[0]
    done = typed(f"{exported}\n{restore}", places, stdin="motovaultpro\n")
    assert done.returncode == 0, done.stderr
    with psycopg.connect(new_server.url("motovaultpro", "motovaultpro", "choose-one")) as connection:
        assert connection.execute("SELECT count(*) FROM vehicles").fetchone() == (1000,)
    restored = sorted(path.relative_to(tmp_path / "srv/documents") for path in (tmp_path / "srv/documents").rglob("*"))
    assert restored == sorted(path.relative_to(documents_dir) for path in documents_dir.rglob("*"))
    back = next(line for line in done.stdout.splitlines() if line.startswith("undo"))
    undone = typed(f"{exported}\n{back.removeprefix('undo').strip()}", places)
    assert undone.returncode == 0, undone.stderr
    with psycopg.connect(new_server.url("motovaultpro", "motovaultpro", "choose-one")) as connection:
        assert connection.execute("SELECT to_regclass('vehicles')").fetchone() == (None,)

    with fresh_database(new_server) as empty:
        settings = environment | {"DATABASE_URL": empty}
        found = typed(find_again, {}, **settings)
        assert found.returncode == 0, found.stderr
        assert "1 added (pinned)" in found.stdout


def test_the_history_moves_to_another_host(
    archive: Path, environment: dict[str, str], source_db: SourceDatabase, tmp_path: Path
) -> None:
    dump, load = (block for block in blocks("", section("Move to another host")))
    old = urlsplit(environment["DATABASE_URL"])
    server = source_db.server
    programs = {"PGPORT": str(server.port), "PGPASSWORD": server.password}
    dumped = typed(
        f"export PATH={server.bin_dir}:$PATH\n{dump}",
        {
            "-U motovaultpro_backup": "-U postgres",
            "metadata.dump motovaultpro_backup": f"{tmp_path}/metadata.dump {old.path[1:]}",
        },
        **programs,
    )
    assert dumped.returncode == 0, dumped.stderr
    with fresh_database(server) as new:
        places = {
            "-U motovaultpro_backup": "-U postgres",
            "-d motovaultpro_backup metadata.dump": f"-d {urlsplit(new).path[1:]} {tmp_path}/metadata.dump",
            "ID --wait": "$(flask backup list | grep -oE '[0-9a-f-]{36}') --dry-run",
        }
        settings = environment | {"DATABASE_URL": new} | programs
        loaded = typed(f"export PATH={server.bin_dir}:$PATH\n{load}", places, **settings)
    assert loaded.returncode == 0, loaded.stdout + loaded.stderr
    assert archive.name in loaded.stdout
    assert "0 come back, 0 change, 0 go" in loaded.stdout
