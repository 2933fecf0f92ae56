"""The `flask` commands, each as a process of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from apiflask import APIFlask

from app.extensions import db
from app.models import Admin, ApiToken, BackupHistory
from app.services.people import admins, tokens
from tests.support.application import EMAIL, PASSWORD, Processes
from tests.support.databases import SourceDatabase


def test_a_backup_is_made_listed_shown_verified_and_found_again(
    app: APIFlask, processes: Processes, worker: object, storage_dir: Path
) -> None:
    made = processes.run("backup", "create", "--wait", "--note", "from the shell")
    assert made.returncode == 0, made.stderr
    backup_id = re.search(r"Backup (\S+) is queued", made.stdout)[1]  # type: ignore[index]
    assert "status:       completed" in made.stdout
    (archive,) = storage_dir.glob("*.tar.gz")
    listed = processes.run("backup", "list", "--status", "completed").stdout
    assert backup_id in listed
    assert archive.name in listed
    shown = processes.run("backup", "show", backup_id).stdout
    assert "note:         from the shell" in shown
    verified = processes.run("backup", "verify", backup_id)
    assert (verified.returncode, "matches its manifest" in verified.stdout) == (0, True)
    db.session.execute(db.delete(BackupHistory))
    db.session.commit()
    rescanned = processes.run("backup", "rescan")
    assert rescanned.returncode == 0, rescanned.stderr
    assert "1 added (pinned)" in rescanned.stdout
    assert "pinned:       yes" in processes.run("backup", "show", backup_id).stdout


def test_a_damaged_archive_makes_verify_fail_with_the_reason(
    app: APIFlask, processes: Processes, worker: object, storage_dir: Path
) -> None:
    made = processes.run("backup", "create", "--wait")
    backup_id = re.search(r"Backup (\S+) is queued", made.stdout)[1]  # type: ignore[index]
    (archive,) = storage_dir.glob("*.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-100])
    done = processes.run("backup", "verify", backup_id)
    assert done.returncode == 1
    assert "damaged" in done.stderr


def test_waiting_for_a_backup_that_fails_ends_with_its_reason(
    app: APIFlask, processes: Processes, worker: object, source_db: SourceDatabase
) -> None:
    with psycopg.connect(source_db.admin_url) as connection:
        connection.execute("CREATE TABLE forbidden (id int)")
    done = processes.run("backup", "create", "--wait")
    assert done.returncode == 1
    assert "The backup failed: BACKUP_SOURCE_URL" in done.stderr
    assert "forbidden" in done.stderr


def test_without_a_worker_it_says_so(app: APIFlask, processes: Processes) -> None:
    done = processes.run("backup", "create")
    assert done.returncode == 0
    assert "is queued" in done.stdout
    assert "flask worker" in done.stderr
    second = processes.run("backup", "create")
    assert second.returncode == 1
    assert "already queued" in second.stderr


def test_an_unknown_backup_is_one_line(app: APIFlask, processes: Processes) -> None:
    done = processes.run("backup", "show", "00000000-0000-0000-0000-000000000000")
    assert done.returncode == 1
    assert done.stderr.strip() == "There is no such backup. It may have been deleted."


def test_an_admin_is_made_with_the_password_from_a_pipe(app: APIFlask, processes: Processes) -> None:
    done = processes.run("admin", "create", "second@example.com", stdin=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    assert admins.authenticate("second@example.com", PASSWORD, "192.0.2.1")
    assert sorted(db.session.scalars(db.select(Admin.email))) == [EMAIL, "second@example.com"]
    short = processes.run("admin", "create", "third@example.com", stdin="short\n")
    assert (short.returncode, "at least" in short.stderr) == (1, True)


def test_a_token_is_printed_once_and_works(app: APIFlask, processes: Processes) -> None:
    done = processes.run("token", "create", "--name", "monitor", "--scope", "read", "--scope", "backup")
    secret = done.stdout.strip()
    token = tokens.authenticate(secret)
    assert token is not None
    assert token.scopes == ["read", "backup"]
    assert secret not in str(db.session.scalars(db.select(ApiToken.secret_hash)).all())
    assert processes.run("token", "create", "--name", "x", "--scope", "root").returncode == 1


def test_the_doctor_says_what_is_missing(app: APIFlask, processes: Processes, documents_dir: Path) -> None:
    done = processes.run("doctor", BACKUP_DOCUMENTS_DIR=str(documents_dir / "none"))
    assert done.returncode == 1
    assert "ok      DATABASE_URL" in done.stdout
    assert "PROBLEM BACKUP_DOCUMENTS_DIR" in done.stdout
    assert "PROBLEM worker" in done.stdout


COMMANDS = (["backup", "list"], ["worker"], ["scheduler"], ["admin", "create", "a@example.com"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command))
def test_every_command_stops_where_source_and_metadata_are_one_database(
    app: APIFlask, processes: Processes, command: list[str], metadata_url: str
) -> None:
    other_way = metadata_url.replace("127.0.0.1", "localhost") + "?application_name=other"
    done = processes.run(*command, BACKUP_SOURCE_URL=other_way)
    assert done.returncode == 1
    assert "are the same database" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_web_process_stops_there_too(app: APIFlask, processes: Processes, metadata_url: str) -> None:
    done = processes.gunicorn(BACKUP_SOURCE_URL=metadata_url + "?application_name=other")
    assert done.returncode == 3
    assert "are the same database" in done.stderr


def test_bad_settings_stop_everything_with_a_line_each(app: APIFlask, processes: Processes) -> None:
    done = processes.run("backup", "list", SECRET_KEY="short", REDIS_URL="nonsense")
    assert done.returncode != 0
    lines = [line.split(" ")[0] for line in done.stderr.strip().splitlines()]
    assert lines == ["REDIS_URL", "SECRET_KEY"]


def test_a_metadata_database_that_cannot_be_reached_is_named_without_its_password(
    app: APIFlask, processes: Processes, metadata_url: str
) -> None:
    unreachable = "postgresql://meta:very-secret-word@127.0.0.1:1/meta"
    done = processes.run("backup", "list", DATABASE_URL=unreachable)
    assert done.returncode == 1
    assert done.stderr.startswith("DATABASE_URL: the metadata database can't be reached")
    assert "very-secret-word" not in done.stderr


def test_missing_tables_are_named_with_the_command_that_makes_them(
    processes: Processes, source_db: SourceDatabase, pg18: Callable[..., str]
) -> None:
    from tests.support.databases import fresh_database

    with fresh_database(source_db.server) as url:
        done = processes.run("backup", "list", DATABASE_URL=url)
    assert done.returncode == 1
    assert "flask db upgrade" in done.stderr
