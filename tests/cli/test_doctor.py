"""`flask doctor`: each thing that can be wrong is made wrong for real, and named with what to do."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from apiflask import APIFlask
from redis import Redis

from app.config import Settings, read_settings
from app.models import BackupHistory
from app.services.checkup import environment as settings_checkup
from app.services.checkup import folders, metadata, processes, run, source
from app.services.checkup.findings import OK, PROBLEM, WARNING, Finding
from app.services.schedules import last_ticks
from tests.support.application import Processes
from tests.support.databases import SourceDatabase

GOOD_KEY = secrets.token_hex(32)
# The tests' own servers do without, for speed. tests/container/test_container_run.py sees the doctor end with 0.
WITHOUT_FLUSH = "a power cut can destroy"


def about(findings: Iterator[Finding] | list[Finding], area: str, level: str) -> str:
    """Return texts and advice of the findings of an area and a level, joined."""
    return "\n".join(f"{each.text} {each.advice}" for each in findings if (each.area, each.level) == (area, level))


def test_a_sound_installation_has_no_problem_but_a_key_that_was_changed(
    app: APIFlask, processes: Processes, worker: object
) -> None:
    processes.start("scheduler")
    processes.run("backup", "create", "--wait")
    last_ticks.ran(last_ticks.CHECK)
    done = processes.run("doctor", "--json", SECRET_KEY=GOOD_KEY)
    report = json.loads(done.stdout)
    unsound = [each for each in report["findings"] if each["level"] == PROBLEM and WITHOUT_FLUSH not in each["text"]]
    # The key differs from the one that signed, and from that of the running processes: that must be seen, and nothing else.
    assert {each["area"] for each in unsound} == {"BACKUP_SIGNING_KEY", "settings"}
    assert {each["text"].split(" uses ")[1] for each in unsound if each["area"] == "settings"} == {
        "another SECRET_KEY than this command."
    }
    assert (done.returncode, report["ok"]) == (1, False)
    done = processes.run("doctor", "--quiet")
    assert [line for line in done.stdout.splitlines() if line.startswith("PROBLEM") and WITHOUT_FLUSH not in line] == []
    assert "ok " not in done.stdout
    assert "warning SECRET_KEY" in done.stdout


def test_settings_that_cannot_be_read_are_findings_too(app: APIFlask, processes: Processes) -> None:
    done = processes.run("doctor", "--json", SECRET_KEY="", REDIS_URL="nonsense", METRICS_ALLOW="all")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert {each["area"] for each in report["findings"]} == {"SECRET_KEY", "REDIS_URL", "METRICS_ALLOW"}
    assert all(each["advice"] for each in report["findings"])
    assert "PROBLEM SECRET_KEY: " in processes.run("doctor", SECRET_KEY="").stdout


def test_no_finding_holds_a_secret(app: APIFlask, settings: Settings) -> None:
    told = "".join(each.text + each.advice for each in run.look(settings))
    assert told
    assert not [secret for secret in settings.secrets() if secret in told]


def test_everything_away_is_said_at_once(processes: Processes, tmp_path: Path) -> None:
    gone = {"DATABASE_URL": "postgresql://m:hidden-word@127.0.0.1:1/m", "REDIS_URL": "redis://:hidden-word@127.0.0.1:1"}
    gone |= {"BACKUP_SOURCE_URL": "postgresql://s:hidden-word@127.0.0.1:1/s", "BACKUP_DOCUMENTS_DIR": str(tmp_path / "none")}
    done = processes.run("doctor", **gone)
    assert done.returncode == 1
    for name in gone:
        assert f"PROBLEM {name}: " in done.stdout
    assert "hidden-word" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("secret", "weak"),
    [("change-me-please-change-me-please-1", True), ("ab" * 30, True), ("k3v" * 5, True), (GOOD_KEY, False)],
    ids=["a phrase", "one letter pair", "too short", "random"],  # a random key as a name is another one in each process
)
def test_a_secret_that_can_be_guessed_is_weak(secret: str, weak: bool) -> None:
    assert settings_checkup.is_weak(secret) is weak


def test_addresses_misspelt_names_and_open_files_are_noticed(environment: dict[str, str], tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(GOOD_KEY)
    key.chmod(0o644)
    given = {**environment, "SECRET_KEY": "", "SECRET_KEY_FILE": str(key), "BACKUP_STORAGE_DIRECTORY": "/x"}
    for public_url, area, words in (
        ("http://backup.example.org", "PUBLIC_URL", "plain text"),
        ("https://backup.example.org", "TRUSTED_PROXY_HOPS", "Set it to the number of proxies"),
        ("", "PUBLIC_URL", "not set"),
    ):
        changed = given | {"PUBLIC_URL": public_url, "METRICS_ALLOW": "0.0.0.0/0", "MAIL_FROM": "me@example.org"}
        found = list(settings_checkup.look(read_settings(changed), changed))
        assert words in about(found, area, WARNING)
    assert "no such setting" in about(found, "BACKUP_STORAGE_DIRECTORY", WARNING)
    assert f"chmod 600 {key}" in about(found, "SECRET_KEY_FILE", WARNING)
    assert "SMTP_URL is not" in about(found, "MAIL_FROM", WARNING)
    assert "nearly everybody" in about(found, "METRICS_ALLOW", WARNING)
    assert about(found, "SECRET_KEY", OK)


def test_rights_that_are_missing_are_named_with_the_statement_that_gives_them(
    app: APIFlask, settings: Settings, source_db: SourceDatabase
) -> None:
    role = psycopg.conninfo.conninfo_to_dict(source_db.url)["user"]
    assert f"the role {role} may read every table" in about(source.look(settings), "BACKUP_SOURCE_URL", OK)
    with psycopg.connect(source_db.admin_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE forbidden (id int)")
        connection.execute("CREATE TABLE guarded (id int)")
        connection.execute(f'GRANT SELECT ON guarded TO "{role}"')
        connection.execute("ALTER TABLE guarded ENABLE ROW LEVEL SECURITY")
        connection.execute(f'ALTER ROLE "{role}" NOCREATEDB NOCREATEROLE')
        found = list(source.look(settings))
        problems, warnings = (about(found, "BACKUP_SOURCE_URL", level) for level in (PROBLEM, WARNING))
        assert f"may not read public.forbidden. As a superuser: GRANT pg_read_all_data TO {role};" in problems
        assert (
            f"row security hides rows of public.guarded from the role {role}. As a superuser: ALTER ROLE {role}" in problems
        )
        assert f"ALTER ROLE {role} CREATEDB;" in warnings
        connection.execute(f'ALTER ROLE "{role}" CREATEDB')
        assert f"ALTER ROLE {role} CREATEROLE;" in about(source.look(settings), "BACKUP_SOURCE_URL", WARNING)
        connection.execute(f'ALTER DATABASE "{connection.info.dbname}" OWNER TO CURRENT_USER')
        assert "does not own the database" in about(source.look(settings), "BACKUP_SOURCE_URL", PROBLEM)
        connection.execute(f'ALTER ROLE "{role}" SUPERUSER')
        assert "is a superuser" in about(source.look(settings), "BACKUP_SOURCE_URL", WARNING)
        connection.execute(f'ALTER ROLE "{role}" NOSUPERUSER')


def test_a_pg_dump_that_is_missing_is_named(app: APIFlask, environment: dict[str, str], tmp_path: Path) -> None:
    empty = read_settings(environment | {"PG_BIN_DIR": str(tmp_path)})
    assert "needs pg_dump 18" in about(source.look(empty), "PG_BIN_DIR", PROBLEM)
    assert "fits the server" in about(source.look(read_settings(environment)), "PG_BIN_DIR", OK)


def test_a_server_that_does_not_flush_is_a_problem(app: APIFlask, settings: Settings) -> None:
    assert WITHOUT_FLUSH in about(metadata.look(settings), "DATABASE_URL", PROBLEM)


def test_tables_of_another_version_are_named_with_the_command(app: APIFlask, settings: Settings) -> None:
    assert "up to date" in about(metadata.look(settings), "DATABASE_URL", OK)
    with psycopg.connect(settings.metadata_dsn) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    assert "flask db upgrade" in about(metadata.look(settings), "DATABASE_URL", PROBLEM)


def test_nobody_who_may_sign_in_is_a_problem(app: APIFlask, settings: Settings) -> None:
    assert "flask admin create" in about(metadata.look(settings), "ADMIN_EMAIL", PROBLEM)


@pytest.mark.parametrize(("seconds", "level"), [(0, OK), (10, WARNING), (-10, WARNING), (300, PROBLEM)])
def test_clocks_that_disagree_are_noticed(seconds: int, level: str) -> None:
    now = datetime.now(UTC)
    found = metadata.clock("X", "the server", now + timedelta(seconds=seconds), now, now + timedelta(milliseconds=5))
    assert found.level == level


def test_redis_that_throws_jobs_away_is_a_problem(app: APIFlask, settings: Settings, redis_url: str) -> None:
    assert "noeviction" in about(processes.look_at_redis(settings), "REDIS_URL", OK)
    with Redis.from_url(redis_url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            assert "maxmemory-policy noeviction" in about(processes.look_at_redis(settings), "REDIS_URL", WARNING)
            client.config_set("maxmemory", 100_000_000)
            assert "maxmemory-policy noeviction" in about(processes.look_at_redis(settings), "REDIS_URL", PROBLEM)
        finally:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", 0)


def test_folders_that_nothing_can_exchange_or_read_are_problems(
    app: APIFlask, settings: Settings, environment: dict[str, str], documents_dir: Path, storage_dir: Path
) -> None:
    storage_dir.chmod(0o755)
    found = list(folders.look(settings))
    assert "can be written to" in about(found, "BACKUP_DOCUMENTS_DIR", OK)
    assert f"chmod 700 {storage_dir}" in about(found, "BACKUP_STORAGE_DIR", WARNING)
    assert "on the same disk as the documents" in about(found, "BACKUP_STORAGE_DIR", WARNING)
    mount = next(line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if line.split()[1] == "/proc")
    mounted = read_settings(environment | {"BACKUP_DOCUMENTS_DIR": mount})
    assert "Mount the folder above it" in about(folders._swappable(mounted.documents_dir), "BACKUP_DOCUMENTS_DIR", PROBLEM)
    inside = read_settings(environment | {"BACKUP_STORAGE_DIR": str(documents_dir / "backups")})
    assert "lies inside the documents folder" in about(folders.look(inside), "BACKUP_STORAGE_DIR", PROBLEM)
    assert not list(storage_dir.glob(".doctor-*"))
    assert not list(documents_dir.parent.glob(".doctor-*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: files of another user")
def test_documents_of_others_are_noticed_by_a_user_who_is_not_root(
    app: APIFlask, processes: Processes, documents_dir: Path
) -> None:
    secret = next(path for path in documents_dir.rglob("*") if path.is_file())
    code = (
        "import os, sys; from pathlib import Path; from app.services.checkup import folders\n"
        "os.setgid(10001); os.setuid(10001)\n"
        "print(*folders._unreadable(Path(sys.argv[1])))"
    )
    secret.chmod(0o600)
    for path in (documents_dir, *documents_dir.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    for parent in documents_dir.parents:
        if parent.stat().st_mode & 0o777 == 0o700 and "pytest" in str(parent):
            parent.chmod(0o711)
    done = subprocess.run([sys.executable, "-c", code, str(documents_dir)], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == "0"
    assert str(documents_dir) in done.stdout


def test_nobody_to_tell_and_no_proof_are_warnings(
    app: APIFlask, settings: Settings, environment: dict[str, str], make_row: Callable[..., BackupHistory]
) -> None:
    make_row()
    assert "Nobody would be notified" in about(processes.look_at_mail(settings), "notifications", WARNING)
    found = list(processes.look_at_processes(settings))
    assert "flask backup verify --restore" in about(found, "restore_test", WARNING)
    assert "No schedule is enabled" in about(found, "schedules", WARNING)
    assert "flask worker" in about(found, "worker", PROBLEM)
    mail = read_settings(environment | {"SMTP_URL": "smtp://127.0.0.1:1"})
    assert "can't be reached" in about(processes.look_at_mail(mail), "SMTP_URL", PROBLEM)
