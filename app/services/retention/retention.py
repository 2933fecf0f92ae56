"""Explain retention: the plan, why and until when each backup is kept, the forecast, and the effect of a changed policy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from uuid import UUID

from sqlalchemy import select

from app.engine.planning import forecast as retention_forecast
from app.engine.planning import retention
from app.engine.planning.forecast import Forecast, Outlook
from app.engine.planning.retention import Candidate, Decision, Plan, Quotas
from app.engine.planning.schedule_times import ScheduleError
from app.errors import InvalidInput
from app.extensions import db
from app.models import BackupHistory, BackupSchedule, utcnow
from app.models.backup_settings import QUOTA_COLUMNS
from app.services.backups import backups
from app.services.history import archive_damage, retention_plan
from app.services.history.retention_plan import Policy, StorageAway, refresh
from app.services.inputs import PlanInput
from app.services.schedules.schedule_rules import rule_of

__all__ = ["Explanation", "PlanView", "Reckoning", "StorageAway", "explain", "explain_some", "plan", "reckon", "refresh"]

HORIZONS = (30, 90, 365)
# The last of twelve monthly backups leaves after twelve more months.
LOOK_AHEAD = timedelta(days=400)
RECENT = 10
# Above this number, the whole folder is listed at once.
ASKED_BY_NAME = 500


@dataclass(frozen=True)
class Explanation:
    """Why a backup is kept, in a sentence. `leaves_at` None: never, or beyond the forecast."""

    backup_id: UUID
    filename: str | None
    started_at: datetime
    size_bytes: int
    kind: str
    keep: bool
    categories: list[str]
    expires_at: datetime | None
    leaves_at: datetime | None
    text: str


@dataclass(frozen=True)
class PlanView:
    """What a policy keeps and deletes now. `newly_deleted` are those that the current policy would keep; `forecast` is for
    30, 90 and 365 days from now, with today's schedules."""

    quotas: dict[str, int]
    kept: list[Explanation]
    deleted: list[Explanation]
    newly_deleted: list[UUID]
    kept_bytes: int
    deleted_bytes: int
    missing: list[UUID]
    damaged: list[UUID]
    forecast: list[Forecast]


def plan(given: PlanInput | None = None, now: datetime | None = None) -> PlanView:
    """Return what the given quotas (default: the stored ones) would keep and delete. Change nothing.

    Raise InvalidInput for a schedule that does not exist.
    """
    now = now or utcnow()
    given = given or PlanInput()
    tried = {name: getattr(given, name) for name in QUOTA_COLUMNS}
    by_schedule = {
        entry.id: {name: getattr(entry, name) for name in QUOTA_COLUMNS if name in entry.model_fields_set}
        for entry in given.schedules
    }
    known = set(db.session.scalars(select(BackupSchedule.id)))
    for number, entry in enumerate(given.schedules):
        if entry.id not in known:
            raise InvalidInput({f"schedules.{number}.id": "There is no such schedule."})
    found = reckon(now, retention_plan.policy(tried, by_schedule))
    before = reckon(now).plan if given.model_fields_set else found.plan
    explained = found.explained(found.plan.decisions)
    kept = [entry for entry in explained if entry.keep]
    deleted = [entry for entry in explained if not entry.keep]
    kept_before = {decision.backup.id for decision in before.kept}
    return PlanView(
        quotas={name: getattr(found.rules.common, name.removeprefix("keep_")) for name in QUOTA_COLUMNS},
        kept=kept,
        deleted=deleted,
        newly_deleted=[entry.backup_id for entry in deleted if entry.backup_id in kept_before],
        kept_bytes=sum(entry.size_bytes for entry in kept),
        deleted_bytes=sum(entry.size_bytes for entry in deleted),
        missing=found.stock.missing,
        damaged=found.stock.damaged,
        forecast=found.forecast(),
    )


@dataclass(frozen=True)
class Reckoning:
    """What a policy keeps now, and the coming runs. Explanations and the forecast are computed on demand, since a page shows
    few of thousands of backups."""

    now: datetime
    plan: Plan
    rules: Policy
    stock: retention_plan.Stock
    future: list[tuple[datetime, frozenset[UUID]]]

    @cached_property
    def outlook(self) -> Outlook:
        """The effect of the coming runs on the backups."""
        return Outlook(self.stock.candidates, _by_set(self.future, self.rules))

    def explained(self, decisions: Iterable[Decision]) -> list[Explanation]:
        """Explain some of the plan's decisions, in the same order."""
        decisions = list(decisions)
        ids = [decision.backup.id for decision in decisions]
        names = _filenames(ids)
        used = retention_plan.in_use([decision.backup.id for decision in decisions if not decision.keep])
        return [_explained(decision, self.outlook, self.rules, names, used) for decision in decisions]

    def forecast(self) -> list[Forecast]:
        """Forecast the backups and bytes in 30, 90 and 365 days."""
        return _forecast(self.stock.candidates, self.rules, self.future, self.now)


def reckon(now: datetime | None = None, rules: Policy | None = None) -> Reckoning:
    """Compute the effect of a policy (default: the stored one). Change nothing. The result is empty if the storage folder is
    not mounted."""
    now = now or utcnow()
    try:
        found, rules, stock = retention_plan.current(now, rules)
    except StorageAway:
        rules, stock = rules or retention_plan.policy(), retention_plan.Stock([], [])
        found = retention.plan([], rules.quotas, now)
    return Reckoning(now, found, rules, stock, coming_runs(now, rules.quotas.values()))


def explain(backup_id: UUID, now: datetime | None = None) -> Explanation:
    """Return why and until when a backup is kept. Raise NotFound."""
    row = backups.get(backup_id)
    found = explain_some([backup_id], now).get(backup_id)
    if found is not None:
        return found
    text = "Retention looks at completed backups only: this one is " + row.status.replace("_", " ") + "."
    if row.status == "completed":
        text = f"It protects nothing, and no cleanup deletes it: {archive_damage.damage(row) or 'its archive is missing.'}"
    started = row.started_at or row.created_at
    return Explanation(row.id, row.filename, started, row.size_bytes or 0, row.kind, True, [], None, None, text)


def explain_some(backup_ids: Iterable[UUID], now: datetime | None = None) -> dict[UUID, Explanation]:
    """Return explanations by id, for those of the backups that take part in retention."""
    found = reckon(now)
    wanted = [found.plan.by_id[backup_id] for backup_id in backup_ids if backup_id in found.plan.by_id]
    return {entry.backup_id: entry for entry in found.explained(wanted)}


def explain_all(now: datetime | None = None) -> dict[UUID, Explanation]:
    """Return the explanation of each completed backup by id."""
    found = reckon(now)
    return {entry.backup_id: entry for entry in found.explained(found.plan.decisions)}


def forecast(now: datetime | None = None) -> list[Forecast]:
    """Forecast the backups and bytes in 30, 90 and 365 days, with today's schedules and quotas."""
    return reckon(now).forecast()


def coming_runs(now: datetime, quotas: Iterable[Quotas]) -> list[tuple[datetime, frozenset[UUID]]]:
    """Return the coming runs of the enabled schedules that may affect retention, in order, each with its schedules."""
    runs: dict[datetime, set[UUID]] = {}
    horizons = [now + timedelta(days=days) for days in HORIZONS]
    enabled = select(BackupSchedule).where(BackupSchedule.enabled, BackupSchedule.deleted_at.is_(None))
    # A category may already be full, so that one more run pushes its oldest backup out.
    newest = max((quota.hourly for quota in quotas), default=0) + 1
    for schedule in db.session.scalars(enabled).all():
        try:
            for run in retention_forecast.runs_that_matter(rule_of(schedule), now, now + LOOK_AHEAD, horizons, newest):
                runs.setdefault(run, set()).add(schedule.id)
        except ScheduleError:
            continue
    return [(run, frozenset(runs[run])) for run in sorted(runs)]


def _by_set(future: list[tuple[datetime, frozenset[UUID]]], rules: Policy) -> dict[str, list[datetime]]:
    runs: dict[str, list[datetime]] = {}
    for run, schedules in future:
        for name in {rules.set_of.get(schedule, retention.DEFAULT_SET) for schedule in schedules}:
            runs.setdefault(name, []).append(run)
    return runs


def _forecast(
    candidates: list[Candidate], rules: Policy, future: list[tuple[datetime, frozenset[UUID]]], now: datetime
) -> list[Forecast]:
    recent = sorted(candidates, key=lambda backup: backup.started_at)[-RECENT:]
    expected = sum(backup.size_bytes for backup in recent) // len(recent) if recent else 0
    coming = [
        (run, frozenset(rules.set_of.get(schedule, retention.DEFAULT_SET) for schedule in schedules))
        for run, schedules in future
    ]
    horizons = [now + timedelta(days=days) for days in HORIZONS]
    return retention_forecast.forecast(candidates, rules.quotas, coming, horizons, expected)


def _explained(
    decision: Decision, outlook: Outlook, rules: Policy, names: dict[UUID, str | None], used: set[UUID]
) -> Explanation:
    backup = decision.backup
    if backup.id in used:
        decision = decision._replace(shields=(*decision.shields, retention.IN_USE))
    leaves = outlook.leaves_at(decision) if decision.keep else None
    return Explanation(
        backup_id=backup.id,
        filename=names.get(backup.id),
        started_at=backup.started_at,
        size_bytes=backup.size_bytes,
        kind=backup.kind,
        keep=decision.keep,
        categories=list(decision.categories),
        expires_at=retention.expires_at(decision, rules.quotas),
        leaves_at=leaves,
        text=retention.explain(decision, leaves, rules.set_name),
    )


def _filenames(backup_ids: list[UUID]) -> dict[UUID, str | None]:
    done = select(BackupHistory.id, BackupHistory.filename).where(BackupHistory.status == "completed")
    if len(backup_ids) <= ASKED_BY_NAME:
        done = done.where(BackupHistory.id.in_(backup_ids))
    return {row.id: row.filename for row in db.session.execute(done)}
