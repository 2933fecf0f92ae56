"""Translate between the history's rows and the engine's retention: what is kept and why, and the columns that record it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import bindparam, select, update

from app.engine.planning import retention
from app.engine.planning.retention import Candidate, Plan, Quotas
from app.extensions import db
from app.models import BackupHistory, BackupSchedule, BackupSlot, utcnow
from app.models.backup_settings import QUOTA_COLUMNS
from app.runs import ledger, locks
from app.services import settings_row
from app.services.history import archive_damage

Row = BackupHistory


class StorageAway(Exception):
    """None of the archives in the history is in the storage folder, which is probably not mounted."""


@dataclass(frozen=True)
class Policy:
    """The quotas of every set, and the set of each schedule."""

    quotas: Mapping[str, Quotas]
    set_of: Mapping[UUID, str]
    names: Mapping[str, str]

    @property
    def common(self) -> Quotas:
        """The quotas of all schedules without their own."""
        return self.quotas[retention.DEFAULT_SET]

    def set_name(self, name: str) -> str:
        """Return a set's display name, which is its schedule's."""
        return self.names.get(name, name)


@dataclass(frozen=True)
class Stock:
    """The completed backups as retention sees them. Those `missing` (no file) or `damaged` (a changed file) take no part:
    they use up no quota, and are not deleted."""

    candidates: list[Candidate]
    missing: list[UUID]
    damaged: list[UUID] = field(default_factory=list)


def policy(
    global_quotas: Mapping[str, int | None] | None = None,
    schedule_quotas: Mapping[UUID, Mapping[str, int | None]] | None = None,
) -> Policy:
    """Return the policy, with the given quotas in place of the stored ones (by column; by schedule and column).

    A schedule, deleted or not, forms a set of its own if it has any quota; its other quotas are the global ones.
    """
    row = settings_row.row()
    tried = global_quotas or {}
    common = {name: tried[name] if tried.get(name) is not None else getattr(row, name) for name in QUOTA_COLUMNS}
    quotas = {retention.DEFAULT_SET: _quotas(common)}
    set_of: dict[UUID, str] = {}
    names = {}
    for schedule in db.session.scalars(select(BackupSchedule).execution_options(populate_existing=True)):
        own = {name: getattr(schedule, name) for name in QUOTA_COLUMNS} | dict((schedule_quotas or {}).get(schedule.id, {}))
        own = {name: value for name, value in own.items() if value is not None}
        if own:
            name = set_of[schedule.id] = str(schedule.id)
            quotas[name] = _quotas(common | own)
            names[name] = schedule.name
        else:
            set_of[schedule.id] = retention.DEFAULT_SET
    return Policy(quotas, set_of, names)


def stock(rules: Policy) -> Stock:
    """Return the completed backups, sorted by the state of their files. Raise StorageAway if no file exists, OSError if the
    folder can't be read."""
    several = len(rules.quotas) > 1
    sets = _sets(rules) if several else {}
    columns = (Row.id, Row.started_at, Row.size_bytes, Row.kind, Row.pinned, Row.verified_at, Row.schedule_id, Row.filename)
    rows = db.session.execute(select(*columns, Row.damaged).where(Row.status == "completed")).all()
    files = archive_damage.look()
    candidates, missing, damaged = [], [], []
    default = frozenset({retention.DEFAULT_SET})
    for row_id, started_at, size_bytes, kind, pinned, verified_at, schedule_id, filename, known_damage in rows:
        facts = files.get(filename or "")
        if started_at is None or facts is None:
            missing.append(row_id)
            continue
        if known_damage is not None or not facts.is_regular or facts.size != size_bytes:
            damaged.append(row_id)
            continue
        mine = default
        if several:
            mine = sets.get(row_id, frozenset())
            if schedule_id is not None:
                mine = mine | {rules.set_of.get(schedule_id, retention.DEFAULT_SET)}
        verified = verified_at is not None
        candidates.append(Candidate(row_id, started_at, size_bytes, kind, pinned, verified, False, mine or default))
    if rows and not candidates and not damaged:
        raise StorageAway(
            f"None of the {len(rows)} archives that the history lists is in BACKUP_STORAGE_DIR. Check that it is mounted."
        )
    return Stock(candidates, missing, damaged)


def current(now: datetime | None = None, rules: Policy | None = None) -> tuple[Plan, Policy, Stock]:
    """Return what the stored policy, or a given one, keeps and why. Raise StorageAway."""
    rules = rules or policy()
    found = stock(rules)
    return retention.plan(found.candidates, rules.quotas, now or utcnow()), rules, found


def refresh(now: datetime | None = None) -> None:
    """Update `categories` and `expires_at` of every row. Called whenever backups or quotas are added, changed or removed;
    does nothing if the storage folder is not mounted."""
    try:
        plan, rules, _ = current(now)
    except StorageAway:
        return
    stored = {row.id: row for row in db.session.execute(select(Row.id, Row.categories, Row.expires_at, Row.status))}
    wanted: dict[UUID, tuple[list[str], datetime | None]] = {
        decision.backup.id: (list(decision.categories), retention.expires_at(decision, rules.quotas))
        for decision in plan.decisions
    }
    changes = []
    for row_id, row in stored.items():
        categories, expires = wanted.get(row_id, ([], None))
        if (list(row.categories), row.expires_at) != (categories, expires):
            changes.append({"row_id": row_id, "categories": categories, "expires_at": expires})
    if changes:
        # In the same order everywhere; otherwise two writers could deadlock.
        changes.sort(key=lambda change: str(change["row_id"]))
        statement = update(Row.__table__).where(Row.__table__.c.id == bindparam("row_id"))  # type: ignore[arg-type]
        db.session.connection().execute(
            statement.values(categories=bindparam("categories"), expires_at=bindparam("expires_at")), changes
        )
    db.session.commit()
    db.session.expire_all()


def pillars(plan: Plan) -> list[tuple[str, int]]:
    """Return the files that a plan relies on most, the newest and the newest verified, with their sizes."""
    names = {retention.NEWEST, retention.NEWEST_VERIFIED}
    chosen = [decision.backup.id for decision in plan.decisions if names.intersection(decision.shields)]
    rows = db.session.execute(select(Row.filename, Row.size_bytes).where(Row.id.in_(chosen)))
    return [(filename, size_bytes) for filename, size_bytes in rows if filename and size_bytes]


def in_use(backup_ids: list[UUID]) -> set[UUID]:
    """Return those of the backups that are being read, downloaded, verified or restored."""
    names = {locks.archive_name(backup_id): backup_id for backup_id in backup_ids}
    used = {names[name] for name in locks.held(names)}
    asked = select(Row.id).where(Row.verify_requested_at.is_not(None), Row.id.in_(backup_ids))
    used |= set(db.session.scalars(asked))
    restore = ledger.restores.live()
    if restore is not None and restore.backup_id is not None:
        used.add(restore.backup_id)
    return used


def _sets(rules: Policy) -> dict[UUID, frozenset[str]]:
    found: dict[UUID, frozenset[str]] = {}
    filled = select(BackupSlot.backup_id, BackupSlot.schedule_id).where(BackupSlot.backup_id.is_not(None))
    for backup_id, schedule_id in db.session.execute(filled):
        if backup_id is None:
            continue
        name = rules.set_of.get(schedule_id, retention.DEFAULT_SET)
        found[backup_id] = found.get(backup_id, frozenset()) | {name}
    return found


def _quotas(columns: Mapping[str, int | None]) -> Quotas:
    return Quotas(**{name.removeprefix("keep_"): value or 0 for name, value in columns.items()})
