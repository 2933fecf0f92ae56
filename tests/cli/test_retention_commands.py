"""`flask retention`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from apiflask import APIFlask

from app.models import BackupHistory, utcnow
from app.services.backups import backups
from tests.support.application import Processes

MakeRow = Callable[..., BackupHistory]


def test_the_plan_names_what_is_kept_and_why_and_changes_nothing(
    app: APIFlask, processes: Processes, make_row: MakeRow
) -> None:
    now = utcnow()
    names = [str(make_row(started_at=now - timedelta(minutes=n), verified_at=now).filename) for n in range(10)]
    done = processes.run("retention", "plan", "--keep-hourly", "2", "--keep-daily", "0", "--keep-weekly", "0")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("keep")
    assert "Kept as hourly 1 of 2, and because it is the newest backup and the newest verified backup." in lines[0]
    assert [line.split()[0] for line in lines[:10]].count("DELETE") == 7
    assert all(name in done.stdout for name in names)
    assert "3 kept (57 B), 7 to be deleted (133 B)." in done.stdout
    assert sum("there will be" in line for line in lines) == 3
    assert backups.list_backups().total == 10
    bad = processes.run("retention", "plan", "--keep-daily", "-1")
    assert (bad.returncode, "keep_daily" in bad.stderr) == (1, True)


def test_cleanup_deletes_what_the_plan_said(app: APIFlask, processes: Processes, make_row: MakeRow) -> None:
    now = utcnow()
    for number in range(12):
        make_row(started_at=now - timedelta(minutes=number), verified_at=now)
    planned = processes.run("retention", "plan").stdout.count("DELETE")
    done = processes.run("retention", "cleanup")
    assert (done.returncode, done.stdout.count("deleted motovaultpro")) == (0, planned)
    assert backups.list_backups().total == 12 - planned
