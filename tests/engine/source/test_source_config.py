"""A bad configuration stops with one clear line that names the setting, and with no secret in it."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from app.demo.servers import EmbeddedPostgres, free_port
from app.engine.backup.backup import BackupRequest, make_backup
from app.engine.errors import DumpError, SourceError
from app.engine.source import clients
from app.engine.source.preflight import Source, check_source
from tests.support.archives import KEY
from tests.support.databases import SourceDatabase

SECRET = "s3cret-Pa55word"


@pytest.fixture
def source(source_db: SourceDatabase, documents_dir: Path) -> Source:
    """A source that works."""
    return Source(source_db.url, documents_dir, "motovaultpro")


def refused(source: Source, storage: Path) -> SourceError:
    """Prove that both the check and the backup refuse a source in the same words; return the error."""
    with pytest.raises(SourceError) as caught:
        make_backup(BackupRequest(source, storage, KEY, uuid4(), disk_reserve=0))
    assert str(caught.value) in [str(problem) for problem in check_source(source, storage)]
    assert "\n" not in str(caught.value)
    assert not storage.is_dir() or list(storage.iterdir()) == []
    return caught.value


def assert_no_secret(error: BaseException, *secrets: str) -> None:
    """Prove that neither an error nor its causes, as a log would print them, show a secret."""
    printed = "".join(traceback.format_exception(error, limit=0))
    for secret in secrets:
        assert secret not in printed


def test_a_good_configuration_has_no_problem(source: Source, storage_dir: Path) -> None:
    assert check_source(source, storage_dir) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda url, db: url.replace(f":{db.server.port}/", f":{free_port()}/"), "refused"),
        (lambda url, db: url.replace("127.0.0.1", "no-such-host.invalid"), "no-such-host.invalid"),
        (lambda url, db: url.replace(db.password, SECRET), "password authentication failed"),
        (lambda url, db: url.replace(f":{db.password}@", "@"), "no password supplied"),
        (lambda url, db: url.replace(db.name, "no_such_database"), "no_such_database"),
        (lambda url, db: url.replace(db.user, "no_such_role"), "no_such_role"),
    ],
    ids=["port", "host", "wrong password", "no password", "database", "role"],
)
def test_a_database_that_can_not_be_opened(
    source: Source,
    source_db: SourceDatabase,
    storage_dir: Path,
    change: Callable[[str, SourceDatabase], str],
    said: str,
) -> None:
    error = refused(replace(source, database_url=change(source.database_url, source_db)), storage_dir)

    assert str(error).startswith("[source]: the database can't be opened: ")
    assert said in str(error)
    assert_no_secret(error, SECRET, source_db.password)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:s3cret@Pa55word@127.0.0.1:1/db",
        "postgresql://user:s3cret/Pa55word@127.0.0.1:1/db",
        "postgresql://user:s3cret%Pa55word@127.0.0.1:1/db",
        "postgresql://user:s3cret%zzPa55word@127.0.0.1:1/db",
        "postgresql://user:s3cret[Pa55word@127.0.0.1:x/db",
        "postgresql://12/s3cret/Pa55word@127.0.0.1:1/db",
        "host=127.0.0.1 password=s3cret Pa55word dbname=x",
        "host=127.0.0.1 password='s3cret Pa55word dbname=x",
        "s3cret Pa55word",
    ],
)
def test_a_url_that_can_not_be_read_is_not_shown(source: Source, storage_dir: Path, url: str) -> None:
    """Unquoted characters let libpq take parts of the password for a host, a port or a database, and show them."""
    error = refused(replace(source, database_url=url), storage_dir)

    assert str(error).startswith("[source]: ")
    assert_no_secret(error, "s3cret", "Pa55word", "zzPa", "cret", "word@")


def test_a_password_with_odd_characters_works(source_db: SourceDatabase, documents_dir: Path, storage_dir: Path) -> None:
    """It passes libpq's URL, our connection and the password file of pg_dump."""
    password = "a:b\\c@d/e%f ?g#h'i\"é\\\\:"
    with psycopg.connect(source_db.admin_url, autocommit=True) as connection:
        connection.execute(f"ALTER ROLE {source_db.user} PASSWORD {sql.quote(password)}")
    url = source_db.server.url(source_db.name, source_db.user, password)

    result = make_backup(
        BackupRequest(Source(url, documents_dir, "motovaultpro"), storage_dir, KEY, uuid4(), disk_reserve=0)
    )

    assert result.path.exists()


def test_a_pg_dump_older_than_the_server(source: Source, pg16: EmbeddedPostgres, storage_dir: Path) -> None:
    error = refused(replace(source, pg_bin_dir=pg16.bin_dir), storage_dir)

    assert str(error).startswith("[tools]: the server is PostgreSQL 18 and needs pg_dump 18 or newer, but in ")
    assert "there is 16." in str(error)


def test_a_newer_pg_dump_is_taken_when_asked_for(
    source_db_each: SourceDatabase, pg18: EmbeddedPostgres, documents_dir: Path, storage_dir: Path
) -> None:
    source = Source(source_db_each.url, documents_dir, "motovaultpro", pg_bin_dir=pg18.bin_dir)

    result = make_backup(BackupRequest(source, storage_dir, KEY, uuid4(), disk_reserve=0))

    assert result.manifest.database.pg_dump_version.startswith("18.")


def test_the_client_of_the_servers_own_version_is_found(pg: EmbeddedPostgres) -> None:
    assert clients.find_client(pg.version).version == pg.version


def test_a_folder_without_pg_dump(source: Source, storage_dir: Path, tmp_path: Path) -> None:
    broken = tmp_path / "bin"
    broken.mkdir()
    assert "there is none" in str(refused(replace(source, pg_bin_dir=broken), storage_dir))

    (broken / "pg_dump").write_text("#!/bin/sh\nexit 1\n")
    (broken / "pg_dump").chmod(0o700)
    error = refused(replace(source, pg_bin_dir=broken), storage_dir)

    assert str(error).startswith("[tools]: ")
    assert str(broken) in str(error)


def test_a_missing_documents_folder(source: Source, storage_dir: Path, tmp_path: Path) -> None:
    error = refused(replace(source, documents_dir=tmp_path / "nowhere"), storage_dir)

    assert str(error).startswith("[documents]: ")
    assert str(tmp_path / "nowhere") in str(error)


def test_a_documents_folder_that_is_a_file(source: Source, storage_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert str(refused(replace(source, documents_dir=tmp_path / "file"), storage_dir)).startswith("[documents]: ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; see the test with a process of another user")
def test_an_unreadable_documents_folder(source: Source, storage_dir: Path) -> None:
    source.documents_dir.chmod(0)
    try:
        assert str(refused(source, storage_dir)).startswith("[documents]: ")
    finally:
        source.documents_dir.chmod(0o700)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; see the test with a process of another user")
def test_a_storage_folder_that_is_not_writable(source: Source, storage_dir: Path) -> None:
    storage_dir.chmod(0o500)
    try:
        assert str(refused(source, storage_dir)).startswith("[storage]: ")
    finally:
        storage_dir.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_folders_that_another_user_may_not_use_are_named(source: Source, storage_dir: Path) -> None:
    """os.access asks for the real user, so a forked child that gives up root asks as that one."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            found = [problem.subject for problem in check_source(source, storage_dir)]
            os.write(write, ",".join(found).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        reported = pipe.read().split(",")
    os.waitpid(child, 0)

    assert {"[documents]", "[storage]"} <= set(reported)


def test_a_storage_folder_under_a_file(source: Source, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    error = refused(source, tmp_path / "file" / "backups")

    assert str(error).startswith("[storage]: ")


@pytest.mark.parametrize("place", [".", "backups", "a/b"])
def test_a_storage_folder_inside_the_documents(source: Source, place: str) -> None:
    storage = source.documents_dir / place
    storage.mkdir(parents=True, exist_ok=True)

    with pytest.raises(SourceError, match=r"^\[storage\]: .* lies inside the documents folder"):
        make_backup(BackupRequest(source, storage, KEY, uuid4(), disk_reserve=0))
    assert [problem.subject for problem in check_source(source, storage)] == ["[storage]"]


def test_every_problem_is_found_at_once(source: Source, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    broken = replace(source, database_url="postgresql://127.0.0.1:1/x", documents_dir=tmp_path / "nowhere")

    subjects = [problem.subject for problem in check_source(broken, tmp_path / "file" / "x")]

    assert subjects == ["[source]", "[documents]", "[storage]"]


def test_a_large_object_that_the_role_may_not_read(source: Source, source_db: SourceDatabase, storage_dir: Path) -> None:
    with psycopg.connect(source_db.admin_url, autocommit=True) as connection:
        connection.execute("SELECT lo_from_bytea(4711, 'x')")

    with pytest.raises(DumpError, match="permission denied for large object 4711") as caught:
        make_backup(BackupRequest(source, storage_dir, KEY, uuid4(), disk_reserve=0))
    assert "\n" not in str(caught.value)
    assert list(storage_dir.iterdir()) == []
