"""Write and read the audit log."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select

from app.extensions import db
from app.models import AuditEntry, utcnow
from app.services.audit.actor import Actor
from app.services.paging import Page

PIECES_RECORDED_EVERY = timedelta(hours=1)


def record(
    actor: Actor, action: str, subject_type: str, subject_id: object = None, detail: dict[str, Any] | None = None
) -> None:
    """Add an entry to the current transaction, so that it is committed with the change that it records."""
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


def record_download(actor: Actor, action: str, subject_id: UUID, detail: dict[str, Any], resumed: bool = False) -> None:
    """Record a download at once. A `resumed` download, or one fetched in pieces, is recorded only once in a while."""
    same = (
        AuditEntry.at > utcnow() - PIECES_RECORDED_EVERY,
        AuditEntry.action == action,
        AuditEntry.subject_type == "backup",
        AuditEntry.subject_id == str(subject_id),
        AuditEntry.actor_kind == actor.kind,
        AuditEntry.actor_id == actor.id,
    )
    if resumed and db.session.scalar(select(AuditEntry.id).where(*same).limit(1)) is not None:
        return
    record(actor, action, "backup", subject_id, detail)
    db.session.commit()


def list_entries(  # noqa: PLR0913, PLR0917 - a filter or an answer of a form each
    page: int = 1,
    page_size: int = 50,
    action: str | None = None,
    actor: str | None = None,
    subject_type: str | None = None,
    subject_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Page[AuditEntry]:
    """Return a page of entries, newest first; pages count from 1.

    `action` is one action or, with a dot at the end, a prefix; `actor` is a part of the actor's name or address; `since` is
    inclusive, `until` exclusive.
    """
    chosen = select(AuditEntry)
    if action:
        same = AuditEntry.action.startswith(action, autoescape=True) if action.endswith(".") else AuditEntry.action == action
        chosen = chosen.where(same)
    if actor:
        email = AuditEntry.detail["email"].astext
        places = (AuditEntry.actor_name, AuditEntry.address, email)
        chosen = chosen.where(or_(*(place.icontains(actor.replace("\0", ""), autoescape=True) for place in places)))
    for column, value in ((AuditEntry.subject_type, subject_type), (AuditEntry.subject_id, subject_id)):
        if value:
            chosen = chosen.where(column == value.replace("\0", ""))
    if since is not None:
        chosen = chosen.where(AuditEntry.at >= since)
    if until is not None:
        chosen = chosen.where(AuditEntry.at < until)
    total = db.session.scalar(select(func.count()).select_from(chosen.subquery())) or 0
    newest = chosen.order_by(AuditEntry.at.desc(), AuditEntry.id.desc())
    items = list(db.session.scalars(newest.limit(page_size).offset((page - 1) * page_size)))
    return Page(items, page, page_size, total)
