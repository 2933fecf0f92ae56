"""Slots in simulated time: what is due, what coincides, what is tried again, what was missed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from apiflask import APIFlask
from sqlalchemy.exc import IntegrityError

from app.errors import Conflict, InvalidInput, NotFound
from app.extensions import db
from app.models import BackupSlot
from app.services.audit import audit
from app.services.backups import backups
from app.services.inputs import ScheduleInput
from app.services.recovery import backup_recovery
from app.services.schedules import due_slots, schedules
from tests.support.application import TESTER, unreachable_redis
from tests.support.scheduling import MINUTE, all_slots, four_schedules, get, kept, queued, schedule, stand_in, tick

SUNDAY_THE_FIRST = datetime(2026, 2, 1, 3, 0, tzinfo=UTC)
EVENING = SUNDAY_THE_FIRST - timedelta(hours=8)


def test_four_schedules_on_sunday_the_first_at_three_make_one_archive_of_all_categories(app: APIFlask) -> None:
    found = four_schedules(SUNDAY_THE_FIRST - timedelta(minutes=30))
    (made,) = tick(SUNDAY_THE_FIRST)
    taken = all_slots()
    assert {slot.schedule_id for slot in taken} == {row.id for row in found}
    assert {(slot.status, slot.backup_id, slot.scheduled_for) for slot in taken} == {("completed", made, SUNDAY_THE_FIRST)}
    backups.retention_plan.refresh(SUNDAY_THE_FIRST)
    row = get(made)
    assert (row.kind, row.categories) == ("scheduled", ["hourly", "daily", "weekly", "monthly"])
    assert row.expires_at == SUNDAY_THE_FIRST.replace(year=2027)
    for entry in found:
        assert (schedules.get(entry.id).last_status, schedules.get(entry.id).last_run_at) == ("completed", SUNDAY_THE_FIRST)


def test_nothing_is_due_twice(app: APIFlask) -> None:
    row = schedule("daily", EVENING)
    assert row.next_run_at == SUNDAY_THE_FIRST
    assert tick(SUNDAY_THE_FIRST - MINUTE) == []
    assert len(tick(SUNDAY_THE_FIRST)) == 1
    for minutes in range(5):
        assert tick(SUNDAY_THE_FIRST + minutes * MINUTE) == []
    assert schedules.get(row.id).next_run_at == SUNDAY_THE_FIRST + timedelta(days=1)


def test_a_slot_is_there_once_whatever_is_tried(app: APIFlask) -> None:
    row = schedule("daily", EVENING)
    tick(SUNDAY_THE_FIRST)
    db.session.add(BackupSlot(schedule_id=row.id, scheduled_for=SUNDAY_THE_FIRST, next_attempt_at=EVENING))
    with pytest.raises(IntegrityError):
        db.session.commit()
    db.session.rollback()
    # A clock that went back, or a stale row of a restored database: the slot is known.
    schedules.get(row.id).next_run_at = SUNDAY_THE_FIRST
    db.session.commit()
    assert tick(SUNDAY_THE_FIRST + MINUTE) == []


def test_ten_hours_down_make_one_catch_up_for_each_schedule_by_one_archive(app: APIFlask) -> None:
    four_schedules(EVENING)
    morning = SUNDAY_THE_FIRST + timedelta(hours=4, minutes=30)
    assert len(tick(morning)) == 1
    taken = {slot.scheduled_for for slot in all_slots()}
    assert len(all_slots()) == 4
    assert taken == {SUNDAY_THE_FIRST, SUNDAY_THE_FIRST + timedelta(hours=4)}
    assert tick(morning + MINUTE) == []


def test_a_failed_slot_is_tried_again_after_1_5_and_15_minutes_and_then_has_failed(app: APIFlask) -> None:
    row = schedule("daily", EVENING)
    tried = []
    for minutes in range(60):
        now = SUNDAY_THE_FIRST + minutes * MINUTE
        if tick(now, "failed"):
            tried.append(minutes)
            (slot,) = all_slots()
            expected = ("failed", "failed") if len(tried) == 4 else ("pending", "retrying")
            assert (slot.status, schedules.get(row.id).last_status) == expected
    assert tried == [0, 1, 6, 21]
    (slot,) = all_slots()
    assert (slot.attempts, slot.error) == (4, "The source was down.")
    backup = get(slot.backup_id)  # type: ignore[arg-type]
    assert (backup.attempt, backup.status) == (4, "failed")


def test_a_retry_that_succeeds_fills_the_slot(app: APIFlask) -> None:
    row = schedule("daily", EVENING)
    first = tick(SUNDAY_THE_FIRST, "failed")
    assert tick(SUNDAY_THE_FIRST + MINUTE) == first
    (slot,) = all_slots()
    assert (slot.status, slot.attempts, slot.error) == ("completed", 2, None)
    assert schedules.get(row.id).last_status == "completed"
    assert get(first[0]).error is None


def test_a_new_slot_is_filled_along_with_an_older_one_that_failed(app: APIFlask) -> None:
    schedule("custom", EVENING, cron_expression="*/5 3 * * *")
    first = tick(SUNDAY_THE_FIRST, "failed")
    assert tick(SUNDAY_THE_FIRST + MINUTE, "failed") == first
    assert tick(SUNDAY_THE_FIRST + 5 * MINUTE) == first
    assert [(slot.status, slot.backup_id) for slot in all_slots()] == [("completed", first[0])] * 2


def test_slots_that_come_while_a_backup_is_still_queued_are_filled_by_it(app: APIFlask) -> None:
    schedule("hourly", SUNDAY_THE_FIRST - 30 * MINUTE)
    made = tick(SUNDAY_THE_FIRST, None)
    for hours in range(1, 4):
        assert tick(SUNDAY_THE_FIRST + timedelta(hours=hours), None) == made
    assert stand_in(made[0], SUNDAY_THE_FIRST + timedelta(hours=3))
    due_slots.settle(SUNDAY_THE_FIRST + timedelta(hours=3))
    assert [slot.status for slot in all_slots()] == ["completed"] * 4


def test_a_slot_that_comes_while_a_backup_runs_gets_one_of_its_own(app: APIFlask) -> None:
    schedule("hourly", SUNDAY_THE_FIRST - 30 * MINUTE)
    (running,) = tick(SUNDAY_THE_FIRST, None)
    assert due_slots.ledger.backups.claim(running, "a slow worker") == 1
    (following,) = tick(SUNDAY_THE_FIRST + timedelta(hours=1), None)
    assert following != running


def test_a_cancelled_backup_is_not_tried_again(app: APIFlask) -> None:
    row = schedule("daily", EVENING)
    (made,) = tick(SUNDAY_THE_FIRST, None)
    backups.cancel(TESTER, made)
    assert tick(SUNDAY_THE_FIRST + MINUTE) == []
    assert all_slots()[0].status == schedules.get(row.id).last_status == "cancelled"


def test_a_manual_run_fills_no_slot_and_belongs_to_its_schedule(app: APIFlask) -> None:
    row = schedule("daily", EVENING, keep_daily=3)
    made = schedules.run(TESTER, row.id)
    assert (made.kind, made.schedule_id, made.scheduled_for, all_slots()) == ("manual", row.id, None, [])
    with pytest.raises(Conflict) as caught:
        schedules.run(TESTER, row.id)
    assert caught.value.extra["id"] == str(made.id)
    stand_in(made.id, EVENING)
    assert len(tick(SUNDAY_THE_FIRST)) == 1
    assert len(kept()) == 2


def test_a_deleted_schedule_runs_no_more_and_waits_for_no_retry(app: APIFlask) -> None:
    row = schedule("daily", EVENING)
    tick(SUNDAY_THE_FIRST, "failed")
    schedules.delete(TESTER, row.id)
    assert [slot.status for slot in all_slots()] == ["cancelled"]
    assert tick(SUNDAY_THE_FIRST + timedelta(days=3)) == []
    with pytest.raises(NotFound):
        schedules.get(row.id)
    assert schedules.list_schedules().total == 0


def test_switched_off_nothing_is_due_and_switched_on_nothing_is_made_up_for(app: APIFlask) -> None:
    row = schedule("daily", EVENING)
    assert schedules.toggle(TESTER, row.id, now=EVENING).enabled is False
    assert tick(SUNDAY_THE_FIRST + timedelta(days=5)) == []
    again = schedules.toggle(TESTER, row.id, True, now=SUNDAY_THE_FIRST + timedelta(days=5, hours=1))
    assert (again.enabled, again.next_run_at) == (True, SUNDAY_THE_FIRST + timedelta(days=6))
    actions = [entry.action for entry in audit.list_entries().items]
    assert actions == ["schedule.enabled", "schedule.disabled", "schedule.created"]


def test_a_changed_rule_counts_from_now_and_a_changed_name_drops_nothing_due(app: APIFlask) -> None:
    row = schedule("daily", EVENING)
    late = SUNDAY_THE_FIRST + timedelta(minutes=1)
    assert schedules.update(TESTER, row.id, ScheduleInput(name="nightly"), late).next_run_at == SUNDAY_THE_FIRST
    changed = schedules.update(TESTER, row.id, ScheduleInput(hour=5, timezone="Europe/Berlin"), late)
    assert changed.next_run_at == SUNDAY_THE_FIRST.replace(hour=4)


def test_a_frequency_keeps_only_what_it_looks_at(app: APIFlask) -> None:
    row = schedule("weekly", EVENING, minute=5, day_of_week=3)
    changed = schedules.update(TESTER, row.id, ScheduleInput(frequency="hourly"), EVENING)
    assert (changed.minute, changed.hour, changed.day_of_week) == (5, None, None)


def test_a_queue_that_is_down_loses_no_slot(app: APIFlask) -> None:
    schedule("daily", EVENING)
    redis = app.extensions["redis"]
    app.extensions["redis"] = unreachable_redis()
    (made,) = tick(SUNDAY_THE_FIRST, None)
    app.extensions["redis"] = redis
    get(made).created_at = EVENING
    db.session.commit()
    backup_recovery.reconcile()
    assert backups.queue.knows(backups.queue.BACKUPS, f"backup-{made}")
    assert queued() == [made]


def test_a_schedule_is_refused_with_a_message_at_each_wrong_field(app: APIFlask) -> None:
    with pytest.raises(InvalidInput) as caught:
        schedules.create(TESTER, ScheduleInput(name="x", frequency="custom", cron_expression="x", timezone="Mars"))
    assert set(caught.value.fields) == {"cron_expression", "timezone"}


def test_a_preview_says_when(app: APIFlask) -> None:
    found = schedules.preview(ScheduleInput(frequency="custom", cron_expression="0 3 * * 1-5"), EVENING)
    assert found.words.startswith("At 03:00")
    assert [run.isoweekday() for run in found.next_runs] == [1, 2, 3, 4, 5]


def test_overdue_is_a_schedule_whose_backup_is_not_there_an_hour_later(app: APIFlask) -> None:
    row = schedule("daily", EVENING)
    assert schedules.overdue(SUNDAY_THE_FIRST + 30 * MINUTE) == []
    (late,) = schedules.overdue(SUNDAY_THE_FIRST + 61 * MINUTE)
    assert (late.schedule.id, late.since, late.announced) == (row.id, SUNDAY_THE_FIRST, False)
    (made,) = tick(SUNDAY_THE_FIRST + 62 * MINUTE, None)
    (late,) = schedules.overdue(SUNDAY_THE_FIRST + 63 * MINUTE)
    assert late.since == SUNDAY_THE_FIRST
    due_slots.ledger.backups.claim(made, "a slow worker")
    assert schedules.overdue(SUNDAY_THE_FIRST + 64 * MINUTE) == []
