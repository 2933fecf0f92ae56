"""/metrics: what an alert needs, counted from what is really there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from apiflask import APIFlask
from prometheus_client.parser import text_string_to_metric_families

from app.extensions import db
from app.models import BackupHistory, BackupSchedule, BackupSlot, utcnow
from app.runs import queue
from app.services.inputs import ScheduleInput
from app.services.schedules import last_ticks, schedules
from tests.support.application import TESTER, unreachable_redis, wait_for

ROOT = Path(__file__).resolve().parents[2]
Token = Callable[..., dict[str, str]]


def figures(app: APIFlask, token: Token) -> dict[tuple[str, str], float]:
    """Return each figure by its name and its label's value (a schedule's: its name; "" without)."""
    answer = app.test_client().get("/metrics", headers=token("read"))
    assert answer.status_code == 200
    families = text_string_to_metric_families(answer.get_data(as_text=True))
    return {
        (sample.name, sample.labels.get("name") or next(iter(sample.labels.values()), "")): sample.value
        for family in families
        for sample in family.samples
    }


def daily(name: str) -> BackupSchedule:
    return schedules.create(TESTER, ScheduleInput(name=name, frequency="daily"))


def test_each_schedule_has_the_age_of_its_last_success(
    app: APIFlask, token: Token, make_row: Callable[..., BackupHistory]
) -> None:
    good, never = daily("good"), daily("never")
    now = utcnow()
    row = make_row(kind="scheduled", started_at=now - timedelta(hours=3), finished_at=now - timedelta(hours=2))
    failed = make_row("failed", kind="scheduled")
    for backup, status, hours in ((row, "completed", 3), (failed, "failed", 1)):
        slot = BackupSlot(
            schedule_id=good.id, scheduled_for=now - timedelta(hours=hours), status=status, backup_id=backup.id
        )
        db.session.add(slot)
    db.session.commit()
    found = figures(app, token)
    assert abs(found["backup_schedule_last_success_age_seconds", "good"] - 7200) < 60
    assert abs(found["backup_schedule_last_success_timestamp_seconds", "good"] - row.finished_at.timestamp()) < 1  # type: ignore[union-attr]
    assert ("backup_schedule_last_success_age_seconds", never.name) not in found
    assert found["backup_schedule_enabled", "never"] == 1
    assert found["backup_schedule_overdue", "never"] == 0
    assert abs(found["backup_last_success_age_seconds", ""] - 7200) < 60


def test_an_overdue_schedule_is_1(app: APIFlask, token: Token) -> None:
    late = daily("late")
    late.next_run_at = utcnow() - timedelta(hours=5)
    db.session.commit()
    assert figures(app, token)["backup_schedule_overdue", "late"] == 1


def test_sizes_durations_and_proofs_are_those_of_the_history(
    app: APIFlask, token: Token, make_row: Callable[..., BackupHistory]
) -> None:
    now = utcnow()
    make_row(
        started_at=now - timedelta(seconds=90),
        finished_at=now,
        summary={"rows": 1000, "documents": 12, "documents_bytes": 3456},
        restore_tested_at=now - timedelta(days=2),
        restore_test_seconds=41.5,
    )
    make_row("queued", created_at=now - timedelta(minutes=7))
    found = figures(app, token)
    assert found["backup_last_duration_seconds", ""] == 90
    assert found["backup_last_size_bytes", ""] == found["backup_stored_bytes", ""] == 19
    assert found["backup_last_documents_bytes", ""] == 3456
    assert abs(found["backup_last_restore_tested_age_seconds", ""] - 2 * 86400) < 60
    assert found["backup_last_restore_test_seconds", ""] == 41.5
    assert abs(found["backup_oldest_queued_age_seconds", ""] - 420) < 60
    assert found["backup_backups", "queued"] == 1
    assert found["backup_storage_free_bytes", ""] > found["backup_storage_needed_bytes", ""] > 0


def test_queues_workers_and_ticks_are_seen(app: APIFlask, token: Token, worker: subprocess.Popen[bytes]) -> None:
    queue.enqueue(queue.BACKUPS, "app.jobs.none", "x", "waits")
    queue.forget(queue.BACKUPS, "waits")
    wait_for(lambda: figures(app, token)["backup_workers", "backups"] == 1)
    last_ticks.ran(last_ticks.CHECK)
    found = figures(app, token)
    assert found["backup_workers", "ticks"] == 1
    assert found["backup_queue_jobs", "backups"] == 0
    assert abs(found["backup_tick_timestamp_seconds", "check"] - utcnow().timestamp()) < 60


def test_jobs_that_wait_are_counted(app: APIFlask, token: Token) -> None:
    for number in range(3):
        queue.enqueue(queue.TICKS, "app.jobs.none", "x", f"waits-{number}")
    found = figures(app, token)
    assert found["backup_queue_jobs", "ticks"] == 3
    assert found["backup_workers", "ticks"] == 0


def test_without_redis_the_rest_is_still_there(app: APIFlask, token: Token) -> None:
    header = token("read")
    app.extensions["redis"] = unreachable_redis()
    app.config["RATELIMIT_ENABLED"] = False
    found = figures(app, lambda *scopes: header)
    assert found["backup_check_ok", "redis"] == 0
    assert found["backup_check_ok", "postgresql"] == 1
    assert ("backup_queue_jobs", "ticks") not in found
    assert ("backup_backups", "failed") in found


def test_the_guide_lists_every_figure_and_no_other(
    app: APIFlask, token: Token, make_row: Callable[..., BackupHistory]
) -> None:
    schedule = daily("nightly")
    row = make_row(
        summary={"rows": 1, "tables": 1, "documents": 1, "documents_bytes": 1},
        restore_tested_at=utcnow(),
        restore_test_seconds=1.0,
        verified_at=utcnow(),
    )
    make_row("failed", finished_at=utcnow())
    db.session.add(BackupSlot(schedule_id=schedule.id, scheduled_for=utcnow(), status="completed", backup_id=row.id))
    db.session.commit()
    last_ticks.ran(last_ticks.CHECK)
    there = {name for name, _ in figures(app, token) if name.startswith("backup_")}
    guide = (ROOT / "docs" / "operators-guide.md").read_text()
    table = guide.partition("### Metrics")[2].partition("\n### ")[0]
    assert set(re.findall(r"`(backup_\w+)", table)) == there
    rules = guide.partition("### Alerts")[2].partition("\n## ")[0]
    used = set(re.findall(r"\b(backup_\w+)", "\n".join(line for line in rules.splitlines() if "expr:" in line)))
    assert used
    assert used <= there
