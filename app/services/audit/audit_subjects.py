"""Find the subjects of audit entries, as far as they still exist."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute

from app.extensions import db
from app.models import Admin, AdminInvitation, ApiToken, AuditEntry, BackupHistory, BackupSchedule, Restore

# The type and id of a thing, as an entry of the log names it.
Subject = tuple[str, str]
# The column that names a thing of each type.
NAMES: dict[str, tuple[InstrumentedAttribute[UUID], InstrumentedAttribute[Any]]] = {
    "backup": (BackupHistory.id, BackupHistory.filename),
    "restore": (Restore.id, Restore.scope),
    "schedule": (BackupSchedule.id, BackupSchedule.name),
    "admin": (Admin.id, Admin.email),
    "token": (ApiToken.id, ApiToken.name),
    "invitation": (AdminInvitation.id, AdminInvitation.email),
}


def present(entries: Iterable[AuditEntry]) -> dict[Subject, str | None]:
    """Return those subjects of the entries that still exist, each with its name if it has one."""
    wanted: dict[str, set[UUID]] = defaultdict(set)
    for entry in entries:
        if entry.subject_type in NAMES and entry.subject_id:
            wanted[entry.subject_type].add(UUID(entry.subject_id))
    found: dict[Subject, str | None] = {}
    for kind, ids in wanted.items():
        key, name = NAMES[kind]
        chosen = select(key, name).where(key.in_(ids))
        if kind == "schedule":
            chosen = chosen.where(BackupSchedule.deleted_at.is_(None))
        found |= {(kind, str(subject_id)): text for subject_id, text in db.session.execute(chosen)}
    return found


def name_of(kind: str, subject_id: str) -> str | None:
    """Return a thing's name, or None if it has none or no longer exists."""
    try:
        entry = AuditEntry(subject_type=kind, subject_id=str(UUID(subject_id)))
    except ValueError:
        return None
    return present([entry]).get((kind, str(UUID(subject_id))))
