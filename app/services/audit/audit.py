"""The audit log's one writer, and its reader."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select

from app.extensions import db
from app.models import AuditEntry, utcnow
from app.services.audit.actor import Actor
from app.services.paging import Page

PIECES_TOLD = timedelta(hours=1)


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


def record_download(actor: Actor, action: str, subject_id: UUID, detail: dict[str, Any], resumed: bool = False) -> None:
    """Given who takes what out of which backup, record it at once. The pieces of a `resumed` one, and of one that is fetched
    in pieces, are told once in a while."""
    told = (
        AuditEntry.at > utcnow() - PIECES_TOLD,
        AuditEntry.action == action,
        AuditEntry.subject_type == "backup",
        AuditEntry.subject_id == str(subject_id),
        AuditEntry.actor_kind == actor.kind,
        AuditEntry.actor_id == actor.id,
    )
    if resumed and db.session.scalar(select(AuditEntry.id).where(*told).limit(1)) is not None:
        return
    record(actor, action, "backup", subject_id, detail)
    db.session.commit()


def list_entries(
    page: int = 1,
    page_size: int = 50,
    action: str | None = None,
    actor: str | None = None,
    subject_type: str | None = None,
    subject_id: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Page[AuditEntry]:
    """Given a page number from 1, its size and filters, return the entries, newest first.

    `action` is one, or, with a dot at its end, all that begin so; `actor` a part of who acted or of the address they came
    from; `since` is the first moment, `until` the first one too late.
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
