"""Cleanup on real rows and files: what goes, what stays, and what is said about it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import pytest
from apiflask import APIFlask
from sqlalchemy import select

from app.extensions import db
from app.models import AuditEntry, BackupHistory, BackupSlot, Restore, utcnow
from app.runs import locks, verification_steps
from app.services.backups import backups
from app.services.history import retention_plan
from app.services.inputs import PlanInput, ScheduleInput, SettingsInput
from app.services.installation import settings
from app.services.retention import cleanup, retention
from app.services.retention.cleanup import CleanupReport
from app.services.schedules import last_ticks, schedules
from tests.support.application import TESTER
from tests.support.scheduling import four_schedules, get, kept, live_through, schedule, tick

MakeRow = Callable[..., BackupHistory]
NOW = datetime(2026, 5, 20, 12, 0, tzinfo=UTC)


@pytest.fixture
def hourly(make_row: MakeRow) -> list[BackupHistory]:
    """Twenty backups of one day, an hour apart, oldest first."""
    begin = NOW.replace(hour=0) - timedelta(hours=20)
    return [
        make_row(started_at=begin + timedelta(hours=n), created_at=begin + timedelta(hours=n), verified_at=NOW)
        for n in range(20)
    ]


def cleaned(now: datetime = NOW) -> CleanupReport:
    report = cleanup.cleanup(TESTER, now)
    assert report is not None
    return report


def ids(rows: list[BackupHistory]) -> list[uuid.UUID]:
    return [row.id for row in rows]


def test_what_no_quota_protects_goes_file_and_row(app: APIFlask, hourly: list[BackupHistory], storage_dir: Path) -> None:
    names, wanted = [str(row.filename) for row in hourly], ids(hourly)
    report = cleaned()
    # The first of the day is daily, weekly and monthly, too.
    assert report.deleted == names[1:12]
    assert ids(kept()) == [wanted[0], *wanted[12:]]
    assert {path.name for path in storage_dir.iterdir()} == {names[0], *names[12:]}
    assert (report.freed_bytes, report.trouble, report.in_use) == (11 * 19, [], [])
    entry = db.session.scalar(select(AuditEntry).where(AuditEntry.action == "retention.cleanup"))
    assert entry is not None
    assert entry.detail["deleted"] == names[1:12]
    assert cleaned().deleted == []


def test_categories_are_kept_true_when_backups_are_pinned_unpinned_and_deleted(
    app: APIFlask, hourly: list[BackupHistory]
) -> None:
    first, second, third = ids(hourly)[:3]
    retention_plan.refresh(NOW)
    everything = ["hourly", "daily", "weekly", "monthly"]
    assert [get(row).categories for row in (first, second)] == [everything, ["hourly"]]
    backups.update(TESTER, first, pinned=True)
    assert [get(row).categories for row in (first, second)] == [[], everything]
    assert get(first).expires_at is None
    backups.delete(TESTER, second)
    assert get(third).categories == everything
    backups.update(TESTER, first, pinned=False)
    assert [get(row).categories for row in (first, third)] == [everything, ["hourly"]]


@pytest.mark.parametrize("shared", [True, False], ids=["read", "verified"])
def test_what_is_in_use_is_left_for_the_next_cleanup(app: APIFlask, hourly: list[BackupHistory], shared: bool) -> None:
    used, name = hourly[3].id, str(hourly[3].filename)
    if shared:
        with locks.holding(locks.archive_name(used), shared=True):
            report = cleaned()
    else:
        hourly[3].verify_requested_at = utcnow()
        db.session.commit()
        report = cleaned()
        verification_steps.finish(used, NOW, None)
    assert report.in_use == [name]
    assert used in ids(kept())
    assert cleaned().deleted == [name]


def test_what_is_about_to_be_restored_stays(app: APIFlask, hourly: list[BackupHistory]) -> None:
    used, name = hourly[3].id, str(hourly[3].filename)
    db.session.add(Restore(backup_id=used, scope="all", status="queued", requested_by="tests"))
    db.session.commit()
    assert cleaned().in_use == [name]


def test_a_file_that_cannot_be_deleted_keeps_its_row_which_says_why(app: APIFlask, hourly: list[BackupHistory]) -> None:
    stuck, name = hourly[3].id, str(hourly[3].filename)
    unlink = Path.unlink

    def failing(path: Path, missing_ok: bool = False) -> None:
        if path.name == name:
            raise PermissionError(1, "Operation not permitted")
        unlink(path, missing_ok)

    with mock.patch.object(Path, "unlink", failing):
        report = cleaned()
    assert len(report.deleted) == 10
    assert name in report.trouble[0]
    assert "could not delete" in str(get(stuck).error)
    assert get(stuck).status == "completed"
    assert cleaned().deleted == [name]


def test_a_failed_backup_prunes_nothing_and_its_row_goes_after_a_month(app: APIFlask, make_row: MakeRow) -> None:
    good = make_row(started_at=NOW - timedelta(days=300), verified_at=NOW)
    old = make_row("failed", created_at=NOW - timedelta(days=31))
    young = make_row("failed", created_at=NOW - timedelta(days=29))
    wanted, gone = {good.id, young.id}, old.id
    report = cleaned()
    assert (report.failed_rows, report.deleted) == (1, [])
    assert set(db.session.scalars(select(BackupHistory.id))) == wanted
    assert gone not in wanted


def test_strangers_archives_are_named_but_never_deleted(
    app: APIFlask, hourly: list[BackupHistory], storage_dir: Path
) -> None:
    stranger = storage_dir / "motovaultpro_backup_20200101_000000.tar.gz"
    stranger.write_bytes(b"nobody has looked at it")
    partial = storage_dir / f".{uuid.uuid4()}.1.partial"
    partial.write_bytes(b"half")
    os.utime(partial, (0, 0))
    report = cleaned()
    assert report.orphans == [stranger.name]
    assert stranger.exists()
    assert not partial.exists()


def test_rows_without_a_file_use_up_no_quota(app: APIFlask, hourly: list[BackupHistory], storage_dir: Path) -> None:
    missing = hourly[12:]
    for row in missing:
        (storage_dir / str(row.filename)).unlink()
    lost = set(ids(missing))
    report = cleaned()
    assert report.missing == 8
    # The eight newest of those that are there, and the first of the day.
    assert len(report.deleted) == 3
    assert lost <= set(ids(kept()))


def test_a_storage_folder_that_is_away_deletes_and_changes_nothing(
    app: APIFlask, hourly: list[BackupHistory], storage_dir: Path
) -> None:
    retention_plan.refresh(NOW)
    before = [(row.id, row.categories) for row in kept()]
    storage_dir.rename(storage_dir.with_name("unmounted"))
    storage_dir.mkdir()
    report = cleaned()
    assert (report.deleted, len(report.trouble)) == ([], 1)
    assert "mounted" in report.trouble[0]
    assert [(row.id, row.categories) for row in kept()] == before


def test_a_deleted_schedules_backups_stay_under_its_last_quotas(app: APIFlask) -> None:
    own = schedule("hourly", NOW, keep_hourly=5, keep_daily=0, keep_weekly=0, keep_monthly=0)
    live_through(NOW, NOW + timedelta(hours=12), timedelta(hours=1))
    theirs = ids(kept())
    assert len(theirs) == 5
    schedules.delete(TESTER, own.id)
    schedule("hourly", NOW + timedelta(hours=13), keep_hourly=2, keep_daily=0, keep_weekly=0, keep_monthly=0)
    live_through(NOW + timedelta(hours=14), NOW + timedelta(hours=24), timedelta(hours=1))
    assert set(theirs) < set(ids(kept()))
    assert len(kept()) == 5 + 2


def test_a_backup_of_several_schedules_is_kept_while_any_set_keeps_it(app: APIFlask) -> None:
    none = {"keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0}
    schedule("hourly", NOW, keep_hourly=2, **none)
    schedule("daily", NOW, keep_hourly=0, **(none | {"keep_daily": 3}))
    live_through(NOW, NOW + timedelta(days=3, hours=12), timedelta(hours=1))
    times = [f"{row.started_at:%d %H}" for row in kept()]
    assert times == ["21 03", "22 03", "23 03", "23 23", "24 00"]
    shared = kept()[2]
    assert len(list(db.session.scalars(select(BackupSlot).where(BackupSlot.backup_id == shared.id)))) == 2


def test_what_a_rescan_found_costs_nobody_else_their_place(
    app: APIFlask, hourly: list[BackupHistory], make_row: MakeRow
) -> None:
    before = {decision.backup.id for decision in retention_plan.current(NOW)[0].kept}
    for number in range(50):
        make_row(started_at=NOW - timedelta(minutes=number), pinned=True, verified_at=NOW, requested_by="rescan")
    cleaned()
    assert before <= set(ids(kept()))


def test_a_restored_metadata_database_deletes_nothing_that_was_kept_before(app: APIFlask, storage_dir: Path) -> None:
    four_schedules(NOW)
    live_through(NOW, NOW + timedelta(days=1), timedelta(hours=1))
    tables = (BackupHistory.__table__, BackupSlot.__table__)
    dump = [[dict(row) for row in db.session.execute(select(table)).mappings()] for table in tables]
    later = NOW + timedelta(days=3)
    live_through(NOW + timedelta(days=1, hours=1), later, timedelta(hours=1))
    yesterday = {path.name for path in storage_dir.iterdir()}
    for table in reversed(tables):
        db.session.execute(table.delete())
    for table, rows in zip(tables, dump, strict=True):
        db.session.execute(table.insert(), rows)
    db.session.commit()
    report = cleaned(later)
    assert (report.deleted, report.trouble) == ([], [])
    assert report.missing > 0
    assert report.orphans != []
    assert {path.name for path in storage_dir.iterdir()} == yesterday


def test_what_is_being_downloaded_stays(
    app: APIFlask, hourly: list[BackupHistory], token: Callable[..., dict[str, str]]
) -> None:
    used, name = hourly[3].id, str(hourly[3].filename)
    address = f"/api/admin/backups/{used}/download"
    answer = app.test_client().get(address, headers=token("backup"), buffered=False)
    assert cleaned().in_use == [name]
    assert answer.data == b"the archive's bytes"
    answer.close()
    assert cleaned().deleted == [name]


def test_the_cleanup_of_four_oclock_is_made_up_for_once(app: APIFlask, hourly: list[BackupHistory]) -> None:
    four = NOW.replace(hour=4)
    last_ticks.ran(last_ticks.CLEANUP, four - timedelta(days=1))
    assert cleanup.daily_if_missed(four + timedelta(minutes=5)) is None, "the scheduler gets its chance"
    report = cleanup.daily_if_missed(four + timedelta(hours=3))
    assert report is not None
    assert len(report.deleted) == 11
    assert cleanup.daily_if_missed(four + timedelta(hours=4)) is None
    assert cleanup.daily_if_missed(four + timedelta(days=1, minutes=11)) is not None


def test_two_cleanups_at_once_are_one(app: APIFlask) -> None:
    with locks.holding(locks.CLEANUP):
        assert cleanup.cleanup(TESTER, NOW) is None


def test_a_changed_policy_is_tried_dry(app: APIFlask, hourly: list[BackupHistory]) -> None:
    wanted = ids(hourly)
    found = retention.plan(PlanInput(keep_hourly=3, keep_monthly=0, keep_weekly=0, keep_daily=0), NOW)
    assert set(found.newly_deleted) == {wanted[0], *wanted[12:17]}
    assert len(found.deleted) == 17
    assert (found.kept_bytes, found.deleted_bytes) == (3 * 19, 17 * 19)
    assert len(kept()) == 20
    settings.update(TESTER, SettingsInput(keep_hourly=3, keep_monthly=0, keep_weekly=0, keep_daily=0))
    assert len(cleaned().deleted) == 17


def test_a_backup_says_why_it_is_kept_and_until_when(app: APIFlask) -> None:
    four_schedules(NOW)
    live_through(NOW, NOW + timedelta(hours=20), timedelta(hours=1))
    now = NOW + timedelta(hours=20)
    rows = kept()
    text = retention.explain(rows[-2].id, now).text
    assert text == "Kept as hourly 2 of 8; leaves on 21 May 2026 with today's schedules."
    first = retention.explain(rows[0].id, now)
    assert first.text.startswith("Kept as daily 2 of 7, weekly 1 of 4 and monthly 1 of 12; leaves on")
    assert first.leaves_at == datetime(2027, 5, 1, 0, 0, tzinfo=UTC)
    assert [ahead.backups for ahead in retention.forecast(now)] == [8 + 7 + 3 + 2, 8 + 7 + 3 + 4, 8 + 7 + 3 + 12]


def test_a_schedule_that_gets_quotas_forms_its_own_set(app: APIFlask) -> None:
    row = schedule("hourly", NOW)
    tick(NOW + timedelta(hours=1))
    schedules.update(TESTER, row.id, ScheduleInput(keep_hourly=1), NOW)
    rules = retention_plan.policy()
    assert rules.quotas[str(row.id)].hourly == 1
    assert rules.quotas[str(row.id)].daily == 7
    (decision,) = retention_plan.current(NOW + timedelta(hours=2))[0].decisions
    assert {rank.set_name for rank in decision.ranks} == {str(row.id)}
