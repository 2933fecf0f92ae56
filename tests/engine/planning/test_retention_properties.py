"""What retention must never do, over random histories and policies; and twelve simulated months."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.engine.planning.forecast import Outlook, forecast, runs_that_matter
from app.engine.planning.retention import (
    CATEGORIES,
    DEFAULT_SET,
    SAFETY_DAYS,
    Candidate,
    Plan,
    Quotas,
    classify,
    period_of,
    plan,
)
from app.engine.planning.schedule_times import ScheduleRule

BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
SETS = (DEFAULT_SET, "one", "two")
EXAMPLES = int(os.environ.get("RETENTION_EXAMPLES", "300"))

quotas = st.builds(Quotas, *(st.integers(0, 5) for _ in CATEGORIES))
policies = st.fixed_dictionaries(dict.fromkeys(SETS, quotas))
candidates = st.builds(
    Candidate,
    id=st.uuids(version=4),
    started_at=st.integers(0, 200 * 24 * 4).map(lambda quarter: BEGIN + timedelta(minutes=15 * quarter)),
    kind=st.sampled_from(("manual", "scheduled", "scheduled", "scheduled", "safety", "uploaded")),
    pinned=st.integers(0, 9).map(lambda number: number == 0),
    verified=st.booleans(),
    in_use=st.integers(0, 9).map(lambda number: number == 0),
    sets=st.frozensets(st.sampled_from(SETS), min_size=1),
)
histories = st.lists(candidates, max_size=40, unique_by=lambda backup: backup.id)
NOW = BEGIN + timedelta(days=201)


def ids(decisions: list) -> set[uuid.UUID]:  # type: ignore[type-arg]
    return {decision.backup.id for decision in decisions}


def oracle(backups: list[Candidate], policy: dict[str, Quotas], now: datetime) -> set[uuid.UUID]:
    """Return what is kept, worked out in the plainest way from SPEC section 4."""
    kept = set()
    for name, quota in policy.items():
        members = sorted(
            (b for b in backups if name in b.sets and not b.pinned and b.kind in ("manual", "scheduled")),
            key=lambda b: (b.started_at, b.id),
        )
        for category in CATEGORIES:
            of_category = [
                backup
                for number, backup in enumerate(members)
                if category == "hourly"
                or not any(
                    period_of(category, earlier.started_at) == period_of(category, backup.started_at)
                    for earlier in members[:number]
                )
            ]
            kept |= {backup.id for backup in of_category[::-1][: quota.of(category)]}
    by_age = sorted(backups, key=lambda b: (b.started_at, b.id))
    kept |= {backup.id for backup in by_age[-1:]}
    kept |= {backup.id for backup in [b for b in by_age if b.verified][-1:]}
    kept |= {b.id for b in backups if b.pinned or b.kind == "uploaded" or b.in_use}
    kept |= {b.id for b in backups if b.kind == "safety" and now - b.started_at < timedelta(days=SAFETY_DAYS)}
    return kept


def check(backups: list[Candidate], policy: dict[str, Quotas], chance: int) -> None:
    """Check every promise on one history."""
    found = plan(backups, policy, NOW)
    assert ids(found.kept) == oracle(backups, policy, NOW)
    shuffled = sorted(backups, key=lambda backup: hash((chance, backup.id)))
    assert plan(shuffled, policy, NOW).decisions == found.decisions
    again = plan([decision.backup for decision in found.kept], policy, NOW)
    assert not again.deleted, "a second cleanup must find nothing to do"
    # Deleting one by one, in any order, ends the same.
    left = list(backups)
    for decision in sorted(found.deleted, key=lambda decision: hash((chance, decision.backup.id))):
        left.remove(decision.backup)
        assert ids(plan(left, policy, NOW).kept) == ids(found.kept)


@given(histories, policies, st.integers())
@settings(max_examples=EXAMPLES, deadline=None)
def test_random_histories_keep_every_promise(backups: list[Candidate], policy: dict[str, Quotas], chance: int) -> None:
    check(backups, policy, chance)


@pytest.mark.heavy
@pytest.mark.timeout(1800)
@given(histories, policies, st.integers())
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
def test_ten_thousand_random_histories_keep_every_promise(
    backups: list[Candidate], policy: dict[str, Quotas], chance: int
) -> None:
    check(backups, policy, chance)


@given(histories, policies, candidates)
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_backup_that_arrives_late_saves_nothing_that_order_would_not(
    backups: list[Candidate], policy: dict[str, Quotas], late: Candidate
) -> None:
    together = plan([*backups, late], policy, NOW)
    assert ids(together.kept) == oracle([*backups, late], policy, NOW)


@given(histories, quotas, st.sampled_from(CATEGORIES))
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_larger_quota_never_deletes_more(backups: list[Candidate], quota: Quotas, category: str) -> None:
    def deleted(quota: Quotas) -> Plan:
        return plan(backups, dict.fromkeys(SETS, quota), NOW)

    larger = Quotas(**{name: quota.of(name) + (name == category) for name in CATEGORIES})
    assert ids(deleted(larger).deleted) <= ids(deleted(quota).deleted)


def simulate(begin: datetime, end: datetime) -> list[Candidate]:
    """Run the four default schedules side by side, with a cleanup after each backup, and return what is left."""
    runs: dict[datetime, set[str]] = {}
    for frequency in ("hourly", "daily", "weekly", "monthly"):
        for run in ScheduleRule(frequency).runs_after(begin - timedelta(seconds=1)):
            if run > end:
                break
            runs.setdefault(run, set()).add(frequency)
    backups: list[Candidate] = []
    for run in sorted(runs):
        backups.append(Candidate(uuid.uuid4(), run, 1, "scheduled", verified=True))
        backups = [decision.backup for decision in plan(backups, {DEFAULT_SET: Quotas()}, run).kept]
    return sorted(backups, key=lambda backup: backup.started_at)


def test_twelve_months_of_four_schedules_end_with_exactly_the_expected_set() -> None:
    left = simulate(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 12, 31, 23, 30, tzinfo=UTC))
    expected = {datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 13)}
    expected |= {datetime(2026, 12, day, tzinfo=UTC) for day in (6, 13, 20, 27)}
    expected |= {datetime(2026, 12, day, tzinfo=UTC) for day in range(25, 32)}
    expected |= {datetime(2026, 12, 31, hour, tzinfo=UTC) for hour in range(16, 24)}
    assert {backup.started_at for backup in left} == expected
    assert len(left) == len(expected)


def test_what_is_left_of_a_year_is_what_a_plan_of_the_whole_year_keeps() -> None:
    begin, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 4, 30, tzinfo=UTC)
    whole = [
        Candidate(uuid.uuid4(), run, verified=True)
        for run in ScheduleRule("hourly").next_runs(begin - timedelta(seconds=1), 5000)
        if run <= end
    ]
    kept = {decision.backup.started_at for decision in plan(whole, {DEFAULT_SET: Quotas()}, end).kept}
    assert {backup.started_at for backup in simulate(begin, end)} == kept


def test_classification_is_the_same_whatever_the_order() -> None:
    backups = [Candidate(uuid.uuid4(), BEGIN + timedelta(hours=7 * number)) for number in range(200)]
    assert classify(backups, DEFAULT_SET) == classify(backups[::-1], DEFAULT_SET)


RULES = [
    ScheduleRule("custom", cron_expression="*/7 * * * *"),
    ScheduleRule("hourly", minute=30, timezone="Asia/Kolkata"),
    ScheduleRule("daily", hour=2, minute=30, timezone="Europe/Berlin"),
    ScheduleRule("custom", cron_expression="0 6,18 * * 1-5"),
    ScheduleRule("monthly", day_of_month="last"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.cron)
@pytest.mark.parametrize("quota", [Quotas(), Quotas(0, 3, 0, 2), Quotas(30, 0, 2, 1)], ids=str)
def test_the_runs_that_matter_look_ahead_as_all_runs_do(rule: ScheduleRule, quota: Quotas) -> None:
    now, until = datetime(2026, 3, 1, 13, 37, tzinfo=UTC), datetime(2026, 4, 20, tzinfo=UTC)
    horizons = [now + timedelta(days=days) for days in (5, 30, 45)]
    every = list(takewhile(lambda run: run <= until, rule.runs_after(now)))
    some = runs_that_matter(rule, now, until, horizons, quota.hourly + 1)
    assert set(some) <= set(every)
    past = [Candidate(uuid.uuid4(), now - timedelta(hours=5 * n), 7, "scheduled") for n in range(1, 60)]
    policy = {DEFAULT_SET: quota}
    ahead = [forecast(past, policy, [(run, frozenset(policy)) for run in runs], horizons, 11) for runs in (every, some)]
    assert ahead[0] == ahead[1]
    leaves = []
    for runs in (every, some):
        outlook = Outlook(past, {DEFAULT_SET: runs})
        leaves.append([outlook.leaves_at(decision) for decision in plan(past, policy, now).kept])
    assert leaves[0] == leaves[1]


def test_a_schedule_of_every_minute_has_few_runs_that_matter() -> None:
    rule, now = ScheduleRule("custom", cron_expression="* * * * *"), datetime(2026, 3, 1, 13, 37, tzinfo=UTC)
    horizons = [now + timedelta(days=days) for days in (30, 90, 365)]
    assert len(runs_that_matter(rule, now, now + timedelta(days=400), horizons, 9)) < 500
