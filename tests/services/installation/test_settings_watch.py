"""Settings that change while processes run: none of them goes on with the old ones, and the doctor sees who does."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from apiflask import APIFlask
from sqlalchemy import select

from app.config import Settings, read_settings
from app.demo.processes import free_port
from app.demo.servers import EmbeddedPostgres
from app.extensions import db
from app.models import BackupHistory
from app.runs import queue
from app.services.backups import backups
from app.services.checkup import processes as processes_checkup
from app.services.checkup.findings import OK, PROBLEM, WARNING
from app.services.installation import settings_watch
from app.services.monitoring import health
from tests.support.application import ROOT, TESTER, Processes, finished, wait_for
from tests.support.databases import SourceDatabase, fresh_source

NEW_ROWS = 7


@pytest.fixture
def other_db(pg18: EmbeddedPostgres) -> Iterator[SourceDatabase]:
    """Another database to back up, with other rows in the same table."""
    with fresh_source(pg18) as other:
        with psycopg.connect(other.url) as connection:
            connection.execute("CREATE TABLE vehicles (id int PRIMARY KEY, name text)")
            connection.execute("INSERT INTO vehicles SELECT n, 'other ' || n FROM generate_series(1, 7) n")
        yield other


@pytest.fixture
def url_file(processes: Processes, environment: dict[str, str], tmp_path: Path) -> Path:
    """The file from which the processes that are started now have BACKUP_SOURCE_URL."""
    path = tmp_path / "backup_source_url"
    path.write_text(environment["BACKUP_SOURCE_URL"] + "\n")
    del processes.environment["BACKUP_SOURCE_URL"]
    processes.environment["BACKUP_SOURCE_URL_FILE"] = str(path)
    return path


def change(path: Path, text: str) -> None:
    """Replace the file as `app.container init` does: whole or not at all."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def made() -> list[tuple[str, int | None]]:
    """Every backup's status and its number of rows, oldest first."""
    backups.rest()
    rows = db.session.scalars(select(BackupHistory).order_by(BackupHistory.created_at)).all()
    return [(row.status, row.summary["rows"] if row.status == "completed" else None) for row in rows]


def kinds() -> set[str]:
    return {report.kind for report in settings_watch.reports(queue.connection())}


def pids(kind: str) -> set[int]:
    return {report.pid for report in settings_watch.reports(queue.connection()) if report.kind == kind}


def test_no_backup_is_made_of_the_old_database_and_every_process_follows(
    app: APIFlask, processes: Processes, url_file: Path, other_db: SourceDatabase
) -> None:
    port = free_port()
    web = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "wsgi:app", "--bind", f"127.0.0.1:{port}", "--no-control-socket"],
        cwd=ROOT,
        env=processes.environment,
    )
    processes._started.append(web)
    supervisor = processes.start("worker")
    scheduler = processes.start("scheduler")
    wait_for(lambda: len(pids("worker")) == len(queue.QUEUES) and kinds() == {"web", "worker", "scheduler"})
    before = {kind: pids(kind) for kind in kinds()}
    doctor = json.loads(processes.run("doctor", "--json").stdout)
    (agree,) = [each for each in doctor["findings"] if each["area"] == "settings"]
    assert agree["level"] == OK
    assert agree["text"] == "Scheduler, web, worker use the same settings as this command."

    change(url_file, other_db.url)
    # At once: the worker has not had the time to notice by itself.
    done = processes.run("backup", "create", "--wait")
    assert done.returncode == 0, done.stderr
    assert made() == [("completed", NEW_ROWS)]
    wait_for(lambda: all(pids(kind) and not pids(kind) & before[kind] for kind in ("web", "worker")))
    assert scheduler.wait(30) == settings_watch.EXIT_SETTINGS_CHANGED
    assert supervisor.poll() is None
    assert web.poll() is None
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=20) as answer:
        assert answer.status == 200


def test_a_backup_that_runs_meanwhile_is_finished_but_not_completed(
    app: APIFlask,
    processes: Processes,
    url_file: Path,
    source_db: SourceDatabase,
    other_db: SourceDatabase,
    storage_dir: Path,
) -> None:
    processes.start("worker")
    wait_for(lambda: len(pids("worker")) == len(queue.QUEUES))
    with psycopg.connect(source_db.admin_url) as blocker:
        blocker.execute("LOCK TABLE vehicles IN ACCESS EXCLUSIVE MODE")
        row = backups.start(TESTER)
        wait_for(lambda: backups.get(row.id).status == "in_progress")
        change(url_file, other_db.url)
    failed = finished(row)
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.startswith("BACKUP_SOURCE_URL: changed while this backup ran")
    # Before the worker has noticed by itself, or after: the next one is of the new database.
    assert finished(backups.start(TESTER)).status == "completed"
    assert made() == [("failed", None), ("completed", NEW_ROWS)]
    assert len(list(storage_dir.glob("*.tar.gz*"))) == 1


def test_a_new_password_for_the_same_database_fails_no_running_backup(environment: dict[str, str], tmp_path: Path) -> None:
    url, key = tmp_path / "url", tmp_path / "key"
    url.write_text("postgresql://app:old@db.example.org:5432/app")
    key.write_text("k" * 32)
    given = {name: value for name, value in environment.items() if name != "BACKUP_SOURCE_URL"}
    settings = read_settings(given | {"BACKUP_SOURCE_URL_FILE": str(url), "BACKUP_SIGNING_KEY_FILE": str(key)})
    assert settings.changed_files() == {}
    url.write_text("postgresql://app:new@db.example.org:5432/app\n")
    assert set(settings.changed_files()) == {"BACKUP_SOURCE_URL"}
    assert settings_watch.outdated_source(settings) is None
    key.write_text("l" * 32)
    assert "BACKUP_SIGNING_KEY: changed" in str(settings_watch.outdated_source(settings))
    key.unlink()
    # Nobody could start again without it.
    assert set(settings.changed_files()) == {"BACKUP_SOURCE_URL"}


def test_the_doctor_and_the_pages_say_which_process_has_other_settings(
    app: APIFlask, settings: Settings, environment: dict[str, str], other_db: SourceDatabase
) -> None:
    """As where systemd was given a changed EnvironmentFile, and not all units were restarted."""
    redis = app.extensions["redis"]
    settings_watch.Watch("worker", settings).report(redis)
    other = read_settings(environment | {"BACKUP_SOURCE_URL": other_db.url, "LOG_FORMAT": "json"})
    found = [each for each in processes_checkup.look_at_processes(other) if each.area == "settings"]
    assert [each.level for each in found] == [PROBLEM]
    assert f"The worker on {socket.gethostname()}" in found[0].text
    assert "uses another BACKUP_SOURCE_URL, LOG_FORMAT than this command" in found[0].text
    harmless = read_settings(environment | {"LOG_FORMAT": "json"})
    assert [each.level for each in processes_checkup.look_at_processes(harmless) if each.area == "settings"] == [WARNING]
    forged = read_settings(environment | {"SECRET_KEY": "quite another secret key"})
    (only,) = [each for each in processes_checkup.look_at_processes(forged) if each.area == "settings"]
    assert "uses another SECRET_KEY than this command" in only.text

    (check,) = [each for each in health.checks() if each.name == "settings"]
    assert check.ok
    app.config["SETTINGS"] = other
    (check,) = [each for each in health.checks() if each.name == "settings"]
    assert (check.ok, "uses another BACKUP_SOURCE_URL than" in check.detail) == (False, True)
    # What Redis knows of the settings is of no use to who reads it.
    reported = b"".join(redis.hgetall(settings_watch.REPORTS_KEY).values()).decode()
    assert not [secret for secret in settings.secrets() if secret in reported]
    assert source_name(settings) not in reported


def source_name(settings: Settings) -> str:
    return settings.source_url.rpartition("/")[2]


def test_reports_of_processes_that_are_gone_or_unreadable_are_left_out(app: APIFlask, settings: Settings) -> None:
    redis = app.extensions["redis"]
    settings_watch.Watch("web", settings).report(redis)
    (key, text), *_ = redis.hgetall(settings_watch.REPORTS_KEY).items()
    late = json.loads(text) | {"at": redis.time()[0] - settings_watch.REPORT_SECONDS - 1}
    redis.hset(settings_watch.REPORTS_KEY, mapping={"late": json.dumps(late), "odd": "[]", "odder": b"\xff", "list": "[1]"})
    assert [report.field for report in settings_watch.reports(redis)] == [key.decode()]
    assert redis.hkeys(settings_watch.REPORTS_KEY) == [key]
