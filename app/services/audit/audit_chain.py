"""The audit log as a hash chain: each sealed entry holds the hash of the one before, so a changed or missing one is
detected.

Entries are written in the concurrent transactions of their changes; the minute tick seals them in order. Chaining them in
those transactions would make each wait for all others. A change within that minute, or by somebody with the rights to
recompute the whole chain, is detected only by comparison with a head that was kept elsewhere: each sealing logs it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from sqlalchemy import delete, func, select

from app.extensions import db
from app.models import AuditEntry, utcnow
from app.runs import locks
from app.services import settings_row
from app.services.audit import audit
from app.services.audit.actor import Actor

logger = structlog.get_logger(__name__)

AT_ONCE = 1000
DAYS_A_YEAR = 365.25
FIRST = "0" * 64
COLUMNS = ("id", "actor_kind", "actor_id", "actor_name", "address", "action", "subject_type", "subject_id", "detail")


@dataclass(frozen=True)
class Head:
    """The position of an entry in the chain, from 1, and its hash. Position 0 is before the first."""

    position: int
    chain_hash: str

    def __str__(self) -> str:
        return f"{self.position}:{self.chain_hash}"


@dataclass(frozen=True)
class Verification:
    """How many entries were read, the last of them, how many are not sealed yet, and the problem found, if any."""

    entries: int
    head: Head
    unsealed: int
    problem: str | None


def seal() -> int:
    """Add the entries that were written since the last sealing to the chain, in the order of their ids. Return their
    number."""
    sealed = 0
    settings_row.row()  # Creates the settings row, with a commit, before the lock is taken.
    while True:
        locks.in_transaction(locks.AUDIT)
        head = _head()
        unsealed = select(AuditEntry).where(AuditEntry.position.is_(None)).order_by(AuditEntry.id).limit(AT_ONCE)
        rows = list(db.session.scalars(unsealed.execution_options(populate_existing=True)))
        for row in rows:
            head = Head(head.position + 1, chained(head.chain_hash, row))
            row.position, row.chain_hash = head.position, head.chain_hash
        db.session.commit()
        sealed += len(rows)
        if len(rows) < AT_ONCE:
            break
    if sealed:
        logger.info("audit log sealed", entries=sealed, head=str(head))
    return sealed


def verify(expected: Head | None = None) -> Verification:
    """Verify the whole chain. `expected`: an entry that must be in it, as noted in a log or by a person."""
    start = _anchor()
    found = _verified(start, expected)
    if found.problem is not None and _anchor() != start:
        # Old entries were deleted while it was being read.
        found = _verified(_anchor(), expected)
    return found


def _verified(start: Head, expected: Head | None) -> Verification:
    head, entries, problem = start, 0, None
    seen = expected is None or expected.position <= start.position
    while problem is None:
        later = select(AuditEntry).where(AuditEntry.position > head.position).order_by(AuditEntry.position).limit(AT_ONCE)
        rows = list(db.session.scalars(later.execution_options(populate_existing=True)))
        for row in rows:
            problem = _problem(head, row)
            if problem is not None:
                break
            head, entries = Head(row.position or 0, row.chain_hash or ""), entries + 1
            if expected is not None and head.position == expected.position:
                seen = True
                if head != expected:
                    problem = f"Entry {head.position} is not the one that was noted: the chain was rebuilt."
        db.session.rollback()
        if len(rows) < AT_ONCE:
            break
    if problem is None and not seen and expected is not None:
        problem = f"The chain ends at entry {head.position}: entry {expected.position} and any in between are missing."
    unsealed = db.session.scalar(select(func.count()).where(AuditEntry.position.is_(None))) or 0
    return Verification(entries, head, unsealed, problem)


def cut(now: datetime | None = None) -> int:
    """Delete the entries older than the `audit_years` setting, from the old end only. Return their number."""
    before = (now or utcnow()).timestamp() - settings_row.row().audit_years * DAYS_A_YEAR * 24 * 3600
    locks.in_transaction(locks.AUDIT)
    kept = select(func.min(AuditEntry.position)).where(AuditEntry.at >= datetime.fromtimestamp(before, UTC))
    first_kept = db.session.scalar(kept)
    goes = AuditEntry.position.is_not(None) if first_kept is None else AuditEntry.position < first_kept
    last = db.session.scalar(select(AuditEntry).where(goes).order_by(AuditEntry.position.desc()).limit(1))
    if last is None or last.at >= datetime.fromtimestamp(before, UTC):
        db.session.rollback()
        return 0
    anchor = Head(last.position or 0, last.chain_hash or "")
    found = settings_row.row()
    found.audit_cut_position, found.audit_cut_hash = anchor.position, anchor.chain_hash
    gone = len(
        db.session.scalars(delete(AuditEntry).where(AuditEntry.position <= anchor.position).returning(AuditEntry.id)).all()
    )
    audit.record(Actor.system("cleanup"), "audit.cut", "storage", None, {"entries": gone, "head": str(anchor)})
    db.session.commit()
    return gone


def chained(before: str, row: AuditEntry) -> str:
    """Return the hash of an entry whose predecessor has the hash `before`."""
    values = {name: getattr(row, name) for name in COLUMNS} | {
        "at": row.at.astimezone(UTC).isoformat(timespec="microseconds")
    }
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{before}\n{text}".encode()).hexdigest()


def _problem(head: Head, row: AuditEntry) -> str | None:
    if row.position != head.position + 1:
        return f"After entry {head.position}, {(row.position or 0) - head.position - 1} entries are missing."
    if row.chain_hash != chained(head.chain_hash, row):
        return f"Entry {row.position} (id {row.id}, {row.at:%Y-%m-%d %H:%M} UTC) or its predecessor was changed."
    return None


def _head() -> Head:
    last = select(AuditEntry.position, AuditEntry.chain_hash).where(AuditEntry.position.is_not(None))
    row = db.session.execute(last.order_by(AuditEntry.position.desc()).limit(1)).first()
    return Head(row[0] or 0, row[1] or "") if row is not None else _anchor()


def _anchor() -> Head:
    found = settings_row.row()
    return Head(found.audit_cut_position or 0, found.audit_cut_hash or FIRST)
