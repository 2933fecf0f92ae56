"""SPEC section 4: its table, its example, and what each backup says of itself."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.engine.planning import retention
from app.engine.planning.forecast import Outlook, forecast
from app.engine.planning.retention import CATEGORIES, DEFAULT_SET, Candidate, Quotas, plan

DEFAULT = {DEFAULT_SET: Quotas()}
NONE = Quotas(0, 0, 0, 0)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def backup(text: str, **values: Any) -> Candidate:
    return Candidate(uuid.uuid4(), at(text), **({"verified": True} | values))


def every(hours: float, begin: str, count: int) -> list[Candidate]:
    """Return that many backups so many hours apart."""
    return [backup(str(at(begin).replace(tzinfo=None) + timedelta(hours=hours * number))) for number in range(count)]


def kept_times(backups: list[Candidate], quotas: dict[str, Quotas], now: str) -> list[str]:
    kept = plan(backups, quotas, at(now)).kept
    return [f"{decision.backup.started_at:%m-%d %H:%M}" for decision in kept]


def test_a_backup_at_midnight_on_sunday_january_1st_is_all_four() -> None:
    found = backup("2023-01-01T00:00")
    assert retention.classify([found], DEFAULT_SET)[found.id] == list(CATEGORIES)


def test_so_is_one_at_three_if_it_is_the_first() -> None:
    found = backup("2023-01-01T03:00")
    assert retention.classify([found], DEFAULT_SET)[found.id] == list(CATEGORIES)
    earlier = backup("2023-01-01T00:00")
    both = retention.classify([found, earlier], DEFAULT_SET)
    assert both == {earlier.id: list(CATEGORIES), found.id: ["hourly"]}


@pytest.mark.parametrize(
    ("moment", "categories"),
    [
        ("2023-01-03T00:30", ["hourly", "daily"]),
        ("2023-01-08T23:59", ["hourly", "daily", "weekly"]),
        ("2023-02-01T12:00", ["hourly", "daily", "monthly"]),
        ("2023-01-01T23:59:59.999999", ["hourly"]),
    ],
)
def test_days_begin_at_midnight_weeks_on_sunday_months_on_the_first(moment: str, categories: list[str]) -> None:
    known = [backup("2023-01-01T00:00"), backup("2023-01-29T00:00")]
    found = backup(moment)
    assert retention.classify([*known, found], DEFAULT_SET)[found.id] == categories


def test_the_table_of_quotas_keeps_8_hourly_7_daily_4_weekly_12_monthly() -> None:
    hourly = every(1, "2024-01-01T00:00", 24 * 500)
    found = plan(hourly, DEFAULT, hourly[-1].started_at)
    protecting: dict[str, int] = dict.fromkeys(CATEGORIES, 0)
    for decision in found.kept:
        for rank in decision.ranks:
            protecting[rank.category] += rank.protects
    assert protecting == {"hourly": 8, "daily": 7, "weekly": 4, "monthly": 12}
    assert len(found.kept) + len(found.deleted) == len(hourly)
    assert all(not rank.protects for decision in found.deleted for rank in decision.ranks)


def test_thirty_days_of_the_default_daily_keep_its_last_8_and_every_keeper() -> None:
    daily = every(24, "2026-01-01T03:00", 30)
    assert kept_times(daily, DEFAULT, "2026-01-30T04:00") == [
        *(f"01-{day:02} 03:00" for day in range(30, 22, -1)),
        "01-18 03:00",
        "01-11 03:00",
        "01-04 03:00",
        "01-01 03:00",
    ]


def test_expiry_is_that_of_the_longest_category_scaled_by_its_quota() -> None:
    first, second = backup("2026-01-31T00:00"), backup("2026-01-31T01:00")
    quotas = {DEFAULT_SET: Quotas(hourly=8, daily=7, weekly=4, monthly=1)}
    found = plan([first, second], quotas, at("2026-02-01"))
    assert retention.expires_at(found.by_id[first.id], quotas) == at("2026-02-28T00:00")
    assert retention.expires_at(found.by_id[second.id], quotas) == at("2026-01-31T09:00")


def test_a_quota_of_nothing_switches_its_category_off() -> None:
    backups = every(1, "2026-01-01T00:00", 20)
    found = plan(backups, {DEFAULT_SET: Quotas(hourly=0, daily=3, weekly=0, monthly=0)}, at("2026-01-02"))
    assert [decision.categories for decision in found.kept] == [(), ("daily",)]
    assert found.kept[0].shields == ("the newest backup", "the newest verified backup")


def test_what_is_never_deleted_is_kept_without_any_quota() -> None:
    old = backup("2025-01-01T00:00")
    pinned, uploaded = backup("2025-01-02T00:00", pinned=True), backup("2025-01-03T00:00", kind="uploaded")
    used, verified = backup("2025-01-04T00:00", in_use=True), backup("2025-01-05T00:00")
    safety_old = backup("2025-12-24T00:00", kind="safety", verified=False)
    safety_young = backup("2025-12-26T00:00", kind="safety", verified=False)
    newest = backup("2026-01-01T00:00", verified=False)
    everything = [old, pinned, uploaded, used, verified, safety_old, safety_young, newest]
    found = plan(everything, {DEFAULT_SET: NONE}, at("2026-01-01T01:00"))
    assert {decision.backup.id for decision in found.deleted} == {old.id, safety_old.id}


@pytest.mark.parametrize("extra", [{"pinned": True}, {"kind": "uploaded"}, {"kind": "safety"}])
def test_pinned_uploaded_and_safety_ones_use_up_no_quota(extra: dict[str, Any]) -> None:
    plain = every(1, "2026-01-05T10:00", 9)
    other = every(1, "2026-01-05T10:30", 9)
    special = [Candidate(b.id, b.started_at, verified=True, **({"kind": "manual"} | extra)) for b in other]
    alone = {decision.backup.id for decision in plan(plain, DEFAULT, at("2026-01-06")).deleted}
    beside = {decision.backup.id for decision in plan([*plain, *special], DEFAULT, at("2026-01-06")).deleted}
    assert beside == alone


def test_a_schedules_own_quotas_form_a_set_and_any_set_keeps() -> None:
    quotas = {DEFAULT_SET: Quotas(1, 0, 0, 0), "own": Quotas(2, 0, 0, 0)}
    shared = backup("2026-01-01T01:00", sets=frozenset({DEFAULT_SET, "own"}))
    later = [backup(f"2026-01-01T0{hour}:00") for hour in (2, 3)]
    own = backup("2026-01-01T04:00", sets=frozenset({"own"}))
    found = plan([shared, *later, own], quotas, at("2026-01-02"))
    assert [decision.backup for decision in found.deleted] == [later[0]]
    assert [rank.set_name for rank in found.by_id[shared.id].ranks if rank.protects] == ["own"]


def test_a_backup_explains_itself() -> None:
    backups = every(24, "2026-01-01T03:00", 10)
    found = plan(backups, DEFAULT, at("2026-01-10T04:00"))
    decision = found.by_id[backups[3].id]
    future = {DEFAULT_SET: [at("2026-01-11T03:00") + timedelta(days=day) for day in range(300)]}
    leaves = Outlook(backups, future).leaves_at(decision)
    assert retention.explain(decision, leaves) == (
        "Kept as hourly 7 of 8, daily 7 of 7 and weekly 1 of 4; leaves on 1 Feb 2026 with today's schedules."
    )


def test_the_day_it_leaves_is_the_day_it_is_deleted() -> None:
    backups = every(24, "2026-01-01T03:00", 40)
    runs = [backups[-1].started_at + timedelta(days=day) for day in range(1, 420)]
    now = backups[-1].started_at + timedelta(minutes=5)
    outlook = Outlook(backups, {DEFAULT_SET: runs})
    for decision in plan(backups, DEFAULT, now).kept[2:]:
        leaves = outlook.leaves_at(decision)
        assert leaves is not None
        coming = [Candidate(uuid.uuid4(), run) for run in runs]
        before = plan([*backups, *(run for run in coming if run.started_at < leaves)], DEFAULT, leaves)
        after = plan([*backups, *(run for run in coming if run.started_at <= leaves)], DEFAULT, leaves)
        verified = Candidate(uuid.uuid4(), leaves, verified=True)
        assert before.by_id[decision.backup.id].keep
        assert not plan([*(d.backup for d in after.decisions), verified], DEFAULT, leaves).by_id[decision.backup.id].keep


def test_pinned_backups_and_those_beyond_the_known_runs_do_not_leave() -> None:
    pinned, plain = backup("2026-01-01T03:00", pinned=True), backup("2026-01-02T03:00")
    outlook = Outlook([pinned, plain], {DEFAULT_SET: [at("2026-01-03T03:00")]})
    found = plan([pinned, plain], DEFAULT, at("2026-01-02T04:00"))
    assert [outlook.leaves_at(decision) for decision in found.decisions] == [None, None]
    assert "pinned" in retention.explain(found.by_id[pinned.id], None)


def test_what_nothing_keeps_says_so() -> None:
    backups = every(1, "2026-01-01T00:00", 10)
    found = plan(backups, {DEFAULT_SET: Quotas(1, 0, 0, 0)}, at("2026-01-02"))
    assert retention.explain(found.by_id[backups[3].id], None) == "Nothing keeps it: the next cleanup deletes it."


def test_the_forecast_counts_what_the_quotas_will_keep() -> None:
    backups = every(24, "2026-01-01T03:00", 10)
    now = at("2026-01-10T04:00")
    future = [(at("2026-01-11T03:00") + timedelta(days=day), frozenset({DEFAULT_SET})) for day in range(400)]
    horizons = [now + timedelta(days=days) for days in (30, 90, 365)]
    found = forecast(backups, DEFAULT, future, horizons, 100)
    simulated = [Candidate(uuid.uuid4(), run, 100, verified=True) for run, _ in future if run <= horizons[-1]]
    assert found[-1].backups == len(plan([*backups, *simulated], DEFAULT, horizons[-1]).kept)
    assert [entry.at for entry in found] == horizons
    assert found[0].backups < found[1].backups <= found[2].backups
    assert found[-1].bytes == 100 * found[-1].backups


def test_months_are_added_as_people_do() -> None:
    assert retention.add_months(at("2026-01-31T03:00"), 1) == at("2026-02-28T03:00")
    assert retention.add_months(at("2026-12-15T03:00"), 12) == at("2027-12-15T03:00")
    assert retention.add_months(at("2027-11-30T03:00"), 3) == at("2028-02-29T03:00")
    assert retention.add_months(at("2026-10-31T03:00"), 1) == at("2026-11-30T03:00")
