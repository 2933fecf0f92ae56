"""Record when each periodic tick last ran."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from app.extensions import db
from app.models import Tick, utcnow

CHECK = "check"
CLEANUP = "cleanup"


def ran(name: str, at: datetime | None = None) -> None:
    """Record that a tick runs now, or ran at a given time."""
    statement = insert(Tick).values(name=name, last_ran_at=at or utcnow())
    statement = statement.on_conflict_do_update(
        index_elements=[Tick.name], set_={"last_ran_at": statement.excluded.last_ran_at}
    )
    db.session.execute(statement)
    db.session.commit()


def last(name: str) -> datetime | None:
    """Return when a tick last ran, or None."""
    return db.session.scalar(select(Tick.last_ran_at).where(Tick.name == name))
