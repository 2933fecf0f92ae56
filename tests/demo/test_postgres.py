"""The embedded PostgreSQL server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres, StackError, free_port
from tests.support.databases import SourceDatabase, pg_dump, psql
from tests.support.processes import is_alive, wait_until, wait_until_gone


def test_server_answers_with_its_version_in_utf8(pg: EmbeddedPostgres) -> None:
    with psycopg.connect(pg.url()) as connection:
        assert connection.info.server_version // 10_000 == pg.version
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert connection.execute("SELECT 'ß' ~ '\\w', upper('é')").fetchone() == (True, "É")


def test_server_listens_on_loopback_only_and_wants_the_password(pg18: EmbeddedPostgres) -> None:
    with psycopg.connect(pg18.url()) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(pg18.url(user="postgres", password="wrong"))


def test_server_does_not_run_as_root(pg18: EmbeddedPostgres) -> None:
    assert pg18.pid is not None
    assert os.stat(f"/proc/{pg18.pid}").st_uid != 0


def test_source_database_is_owned_by_a_role_that_is_no_superuser(source_db_each: SourceDatabase) -> None:
    with psycopg.connect(source_db_each.url) as connection:
        assert connection.execute("SELECT usesuper FROM pg_user WHERE usename = current_user").fetchone() == (False,)
        connection.execute("CREATE TABLE vehicles (id int PRIMARY KEY)")


def test_client_programs_of_each_version_work(source_db_each: SourceDatabase) -> None:
    assert (
        psql(source_db_each.bin_dir, source_db_each.url, "CREATE TABLE t (a int); INSERT INTO t VALUES (7); TABLE t")
        == "7\n"
    )
    dump = pg_dump(source_db_each.bin_dir, source_db_each.url)
    assert "COPY public.t (a) FROM stdin;\n7\n" in dump
    assert dump == pg_dump(source_db_each.bin_dir, source_db_each.url)


def test_data_survives_a_stop_and_a_kill(tmp_path: Path) -> None:
    server = EmbeddedPostgres(18, tmp_path / "data", durable=False)
    with server:
        with psycopg.connect(server.url()) as connection:
            connection.execute("CREATE TABLE kept (a int)")
        server.stop()
        assert server.pid is None
        server.start()
        server.crash()
        assert (server.cluster_dir / "postmaster.pid").exists()
        server.start()
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("SELECT count(*) FROM kept").fetchone() == (0,)


def test_stale_pid_file_of_another_program_is_no_obstacle(tmp_path: Path) -> None:
    with EmbeddedPostgres(18, tmp_path / "data", durable=False) as server:
        server.stop()
        (server.cluster_dir / "postmaster.pid").write_text(f"{os.getpid()}\n{server.cluster_dir}\n")
        server.start()
        assert server.pid is not None


def test_second_server_on_a_cluster_is_refused_with_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.demo.postgres.PID_FILE_SECONDS", 0.2)
    with EmbeddedPostgres(18, tmp_path / "data", durable=False) as server:
        with pytest.raises(StackError, match=f"process {server.pid}"):
            EmbeddedPostgres(18, tmp_path / "data").start()


def test_half_made_cluster_is_made_afresh(tmp_path: Path) -> None:
    half = tmp_path / "data" / "cluster.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(18, tmp_path / "data", durable=False) as server:
        with psycopg.connect(server.url()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert not half.exists()


def test_cluster_of_another_version_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with EmbeddedPostgres(16, tmp_path / "data", durable=False):
        pass
    with pytest.raises(StackError, match="created by PostgreSQL 16, not 18"):
        EmbeddedPostgres(18, tmp_path / "data").start()


def test_taken_port_is_named_in_the_message(pg18: EmbeddedPostgres, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="Address already in use"):
        EmbeddedPostgres(18, tmp_path / "data", port=pg18.port, durable=False).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: a folder that the server's user may not enter")
def test_root_may_keep_the_cluster_below_a_closed_folder() -> None:
    with tempfile.TemporaryDirectory(prefix="closed-") as closed:
        assert os.stat(closed).st_mode & 0o777 == 0o700
        folder = Path(closed) / "inner"
        folder.mkdir(mode=0o700)
        with EmbeddedPostgres(18, folder / "data", durable=False, socket_dir=folder / "socket") as server:
            assert os.stat(f"/proc/{server.pid}").st_uid != 0
            with psycopg.connect(server.url()) as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            with psycopg.connect(host=str(folder / "socket"), port=server.port, user="postgres") as connection:
                assert connection.execute("SELECT 2").fetchone() == (2,)
        assert [path.stat().st_mode & 0o777 for path in (Path(closed), folder)] == [0o700, 0o700]
        assert os.stat(closed).st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: capabilities to give up")
def test_closed_folder_without_the_capability_ends_in_plain_words() -> None:
    code = (
        "import ctypes, os, sys\n"
        "for capability in (1, 2): ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)\n"
        "os.execv(sys.executable, [sys.executable, '-c', sys.argv[1], *sys.argv[2:]])"
    )
    start = (
        "import sys; from pathlib import Path; from app.demo.servers import EmbeddedPostgres, StackError\n"
        "try: EmbeddedPostgres(18, Path(sys.argv[1]), durable=False).start()\n"
        "except StackError as error: print(error)"
    )
    with tempfile.TemporaryDirectory(prefix="closed-") as closed:
        data = f"{closed}/data"
        done = subprocess.run([sys.executable, "-c", code, start, data], capture_output=True, text=True)
    assert "start it as an ordinary user" in done.stdout
    assert closed in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_server_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from app.demo.servers import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(18, Path(sys.argv[1]), durable=False).start()\n"
        "print(server.pid, flush=True); time.sleep(300)"
    )
    starter = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "data")], stdout=subprocess.PIPE)
    try:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert is_alive(pid)
    finally:
        starter.send_signal(signal.SIGKILL)
        starter.communicate()
    assert wait_until_gone(pid)
    assert wait_until(lambda: not (tmp_path / "data" / "cluster" / "postmaster.pid").exists())


def test_free_port_is_never_a_well_known_one() -> None:
    assert not {free_port() for _ in range(50)} & {5432, 6379, 8000}
