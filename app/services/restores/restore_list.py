"""List the history of restores."""

from __future__ import annotations

from sqlalchemy import func, select

from app.extensions import db
from app.models import Restore
from app.services.paging import Page


def list_restores(page: int = 1, page_size: int = 25) -> Page[Restore]:
    """Return a page of restores, newest first; pages count from 1."""
    total = db.session.scalar(select(func.count()).select_from(Restore)) or 0
    newest = select(Restore).order_by(Restore.created_at.desc(), Restore.id.desc())
    items = list(db.session.scalars(newest.limit(page_size).offset((page - 1) * page_size)))
    return Page(items, page, page_size, total)
