"""The audit log's one writer, and its reader."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from app.extensions import db
from app.models import AuditEntry
from app.services.actor import Actor
from app.services.paging import Page


def record(
    actor: Actor, action: str, subject_type: str, subject_id: object = None, detail: dict[str, Any] | None = None
) -> None:
    """Given who did what to which thing, add it to the current transaction: it is committed with the change."""
    db.session.add(
        AuditEntry(
            actor_kind=actor.kind,
            actor_id=actor.id,
            actor_name=actor.name,
            address=actor.address,
            action=action,
            subject_type=subject_type,
            subject_id=None if subject_id is None else str(subject_id),
            detail=detail or {},
        )
    )


def list_entries(page: int = 1, page_size: int = 50, action: str | None = None) -> Page[AuditEntry]:
    """Given a page number from 1 and its size, return the entries, newest first."""
    chosen = select(AuditEntry)
    if action:
        chosen = chosen.where(AuditEntry.action == action)
    total = db.session.scalar(select(func.count()).select_from(chosen.subquery())) or 0
    newest = chosen.order_by(AuditEntry.at.desc(), AuditEntry.id.desc())
    items = list(db.session.scalars(newest.limit(page_size).offset((page - 1) * page_size)))
    return Page(items, page, page_size, total)
