"""What the pictures are drawn from: how the days went, what was stored, what is kept."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from apiflask import APIFlask
from redis import Redis

from app.extensions import db
from app.jobs import tick
from app.models import AuditEntry, BackupHistory, BackupSchedule, BackupSlot
from app.services.backups import backups
from app.services.inputs import ScheduleInput, SettingsInput
from app.services.installation import settings as stored_settings
from app.services.monitoring import calendar, storage_history
from app.services.monitoring.calendar import Day
from app.services.retention import timeline
from app.services.schedules import last_ticks, schedules
from tests.support.application import TESTER

Make = Callable[..., BackupHistory]
NOW = datetime(2026, 3, 29, 12, tzinfo=UTC)


def on(days_ago: int, hour: int = 3) -> datetime:
    return (NOW - timedelta(days=days_ago)).replace(hour=hour)


def at(moment: datetime) -> dict[str, datetime]:
    """Return the columns of a backup that was made at that time."""
    return {"created_at": moment, "started_at": moment, "finished_at": moment + timedelta(minutes=1)}


def day_of(days_ago: int) -> Day:
    return calendar.days(NOW)[-1 - days_ago]


def schedule(began: datetime, **given: object) -> BackupSchedule:
    """Return a schedule that began then, whose slots do not exist yet."""
    row = schedules.create(TESTER, ScheduleInput.model_validate({"name": "S", "frequency": "daily"} | given), began)
    db.session.query(AuditEntry).filter_by(subject_id=str(row.id)).update({"at": began})
    db.session.commit()
    return row


def slots(row: BackupSchedule, *moments: datetime, status: str = "completed") -> None:
    for moment in moments:
        db.session.add(BackupSlot(schedule_id=row.id, scheduled_for=moment, status=status, attempts=1, created_at=moment))
    db.session.commit()


def test_days_count_what_was_done_warned_and_failed(app: APIFlask, make_row: Make) -> None:
    for columns in (at(on(1)), at(on(1, 9)) | {"warnings": ["w"]}, at(on(1)) | {"kind": "uploaded"}):
        make_row(**columns)
    make_row("failed", created_at=on(1), started_at=on(1))
    make_row("cancelled", **at(on(2)))
    assert (day_of(1).done, day_of(1).warned, day_of(1).failed, day_of(1).missed) == (1, 1, 1, 0)
    assert day_of(2).state == "none"
    assert len(calendar.days(NOW)) == 366


def test_a_deleted_backup_is_still_known_by_the_audit_log(app: APIFlask, make_row: Make) -> None:
    rows = [make_row(**at(on(1))), make_row(**at(on(1)), warnings=["w"])]
    before = day_of(1)
    for row in rows:
        backups.delete(TESTER, row.id)
    assert day_of(1) == before
    assert (before.done, before.warned) == (1, 1)


def test_a_slot_whose_backup_is_gone_without_a_word_still_counts(app: APIFlask) -> None:
    one, other = schedule(on(9)), schedule(on(9))
    for row in (one, other):
        slots(row, *(on(ago) for ago in range(8, -1, -1)))
    slots(one, on(3, 20), status="failed")
    assert (day_of(2).done, day_of(2).missed) == (1, 0)
    assert day_of(3).failed == 1


def test_a_day_without_its_slot_is_missed(app: APIFlask) -> None:
    row = schedule(on(10, 2))
    slots(row, on(9), on(8), on(5), on(4), on(3), on(2), on(1), on(0))
    assert [day.missed for day in calendar.days(NOW)[-10:]] == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert day_of(7).state == "missed"


def test_what_is_due_now_and_was_not_made_is_missed_but_not_what_is_late_by_minutes(app: APIFlask) -> None:
    row = schedule(on(3, 2))
    slots(row, on(2))
    assert [day.missed for day in calendar.days(NOW)[-3:]] == [0, 1, 1]
    assert [day.missed for day in calendar.days(on(0) + timedelta(minutes=30))[-3:]] == [0, 1, 0]


def test_a_schedule_that_never_ran_misses_from_its_beginning(app: APIFlask) -> None:
    schedule(on(2, 2))
    assert [day.missed for day in calendar.days(NOW)[-4:]] == [0, 1, 1, 1]


@pytest.mark.parametrize("change", ["enabled", "rule", "deleted", "off"])
def test_only_the_time_since_a_rule_is_in_force_is_reckoned(app: APIFlask, change: str) -> None:
    row = schedule(on(20))
    slots(row, on(19), on(1), on(0))
    if change == "enabled":
        schedules.toggle(TESTER, row.id, False, on(10))
        schedules.toggle(TESTER, row.id, True, on(2))
    elif change == "rule":
        schedules.update(
            TESTER, row.id, ScheduleInput(hour=3, minute=0, frequency="custom", cron_expression="0 3 * * *"), NOW
        )
    elif change == "deleted":
        schedules.delete(TESTER, row.id, NOW)
    else:
        schedules.toggle(TESTER, row.id, False, NOW)
    changed = AuditEntry.action.in_(("schedule.enabled", "schedule.changed"))
    db.session.query(AuditEntry).filter(changed).update({"at": on(2, 4)})
    db.session.commit()
    assert sum(day.missed for day in calendar.days(NOW)) == 0


def test_a_new_name_changes_no_rule(app: APIFlask) -> None:
    row = schedule(on(5))
    slots(row, on(4), on(0))
    schedules.update(TESTER, row.id, ScheduleInput(name="Another"), NOW)
    assert sum(day.missed for day in calendar.days(NOW)) == 3


def test_the_hour_that_a_zone_skips_is_not_missed(app: APIFlask) -> None:
    """In Berlin, 02:30 does not exist on 29 March 2026: the run of that day comes at 03:00, half an hour less than a day
    after the one before."""
    row = schedule(on(4, 0), hour=2, minute=30, timezone="Europe/Berlin")
    slots(row, *(moment for moment in schedules.rule_of(row).next_runs(on(4, 0), 9) if moment < NOW))
    assert sum(day.missed for day in calendar.days(NOW)) == 0


@pytest.mark.parametrize("frequency", ["hourly", "daily", "weekly", "monthly"])
def test_a_year_without_a_gap_has_no_missed_day(app: APIFlask, frequency: str) -> None:
    row = schedule(NOW - timedelta(days=300), frequency=frequency, timezone="Europe/Berlin")
    runs = [run for run in schedules.rule_of(row).next_runs(NOW - timedelta(days=300), 7400) if run < NOW]
    db.session.execute(
        BackupSlot.__table__.insert(),  # type: ignore[attr-defined]
        [{"schedule_id": row.id, "scheduled_for": run, "status": "completed", "attempts": 1} for run in runs],
    )
    db.session.commit()
    assert sum(day.missed for day in calendar.days(NOW)) == 0


def test_storage_is_what_there_is_and_what_there_was(app: APIFlask, make_row: Make) -> None:
    make_row(**at(on(400)), size_bytes=100)
    gone = make_row(**at(on(20)), size_bytes=50)
    make_row(**at(on(10)), size_bytes=7)
    make_row("failed", created_at=on(5))
    assert [(stored.backups, stored.bytes) for stored in storage_history.history(NOW)] == [
        (1, 100),
        (2, 150),
        (3, 157),
        (3, 157),
    ]
    backups.delete(TESTER, gone.id)
    db.session.query(AuditEntry).filter_by(action="backup.deleted").update({"at": on(4)})
    db.session.commit()
    history = storage_history.history(NOW)
    assert [(stored.backups, stored.bytes) for stored in history] == [(1, 100), (2, 150), (3, 157), (2, 107), (2, 107)]
    assert history[-1].day == NOW.date()


def test_storage_begins_with_nothing_before_the_first_backup(app: APIFlask, make_row: Make) -> None:
    assert storage_history.history(NOW) == []
    make_row(**at(on(0)), size_bytes=9)
    assert [(stored.day, stored.bytes) for stored in storage_history.history(NOW)] == [
        (NOW.date() - timedelta(days=1), 0),
        (NOW.date(), 9),
    ]


def test_the_timeline_says_what_each_tier_keeps(app: APIFlask, make_row: Make) -> None:
    stored_settings.update(TESTER, SettingsInput.model_validate({"keep_hourly": 2, "keep_weekly": 0}))
    for ago in range(5):
        make_row(**at(on(ago)), size_bytes=10)
    make_row(**at(on(90)), pinned=True, size_bytes=10)
    found = timeline.reckoned(NOW)
    lanes = {lane.name: (lane.kept, lane.quota) for lane in found.lanes}
    assert lanes["hourly"] == (2, 2)
    assert lanes["daily"] == (5, 7)
    assert lanes["weekly"] == (0, 0)
    assert lanes["otherwise"] == (1, None)
    assert (found.kept, found.kept_bytes, found.deleted) == (6, 60, 0)
    assert found.stretches == 4


def test_the_timeline_is_kept_until_something_changes(app: APIFlask, make_row: Make) -> None:
    make_row(size_bytes=10)
    first = timeline.timeline()
    assert timeline.timeline() == first
    row = make_row(size_bytes=10)
    assert timeline.timeline().kept == 2
    backups.update(TESTER, row.id, pinned=True)
    assert {lane.name: lane.kept for lane in timeline.timeline().lanes}["otherwise"] == 1
    stored_settings.update(TESTER, SettingsInput.model_validate({"keep_hourly": 1}))
    assert timeline.timeline().lanes[0].quota == 1


def test_the_tick_works_the_timeline_out_before_anybody_asks(
    app: APIFlask, make_row: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_row(size_bytes=10)
    tick.run(last_ticks.CHECK)
    monkeypatch.setattr(timeline, "reckoned", lambda now: pytest.fail("it was worked out again"))
    assert timeline.timeline().kept == 1


def test_a_run_of_a_schedule_alone_changes_nothing_that_is_drawn(app: APIFlask) -> None:
    row = schedule(on(3))
    before = timeline.timeline()
    row.last_run_at, row.last_status = NOW, "completed"
    db.session.commit()
    assert timeline.timeline() == before
    schedules.toggle(TESTER, row.id, False)
    assert timeline.timeline() != before


def test_without_redis_the_timeline_is_worked_out_each_time(app: APIFlask, make_row: Make) -> None:
    make_row(size_bytes=10)
    app.extensions["redis"] = Redis.from_url("redis://127.0.0.1:1/0", socket_connect_timeout=0.2)
    assert timeline.timeline().kept == 1
