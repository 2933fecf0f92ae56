"""When each periodic tick last ran."""

from __future__ import annotations

from sqlalchemy.dialects.postgresql import insert

from app.extensions import db
from app.models import Tick, utcnow

CHECK = "check"


def ran(name: str) -> None:
    """Given a tick that runs now, remember it."""
    statement = insert(Tick).values(name=name, last_ran_at=utcnow())
    statement = statement.on_conflict_do_update(
        index_elements=[Tick.name], set_={"last_ran_at": statement.excluded.last_ran_at}
    )
    db.session.execute(statement)
    db.session.commit()
