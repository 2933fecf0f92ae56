"""Run all checks, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from app.config import Settings
from app.engine.errors import EngineError
from app.extensions import db
from app.services.checkup import environment, folders, metadata, processes, source
from app.services.checkup.findings import Finding, problem


def look(settings: Settings) -> list[Finding]:
    """Return all findings, in the order in which to fix them. Raise nothing: a check that fails to run is reported as a
    problem. No finding contains a secret."""
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("settings", lambda: environment.look(settings)),
        ("DATABASE_URL", lambda: metadata.look(settings)),
        ("REDIS_URL", lambda: processes.look_at_redis(settings)),
        ("BACKUP_SOURCE_URL", lambda: source.look(settings)),
        ("folders", lambda: folders.look(settings)),
        ("processes", lambda: processes.look_at_processes(settings)),
        ("SMTP_URL", lambda: processes.look_at_mail(settings)),
    ]
    found = [finding for area, each in looks for finding in _unbroken(area, each)]
    return [Finding(each.area, each.level, settings.redact(each.text), settings.redact(each.advice)) for each in found]


def _unbroken(area: str, look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except (psycopg.Error, SQLAlchemyError, RedisError, EngineError, OSError) as error:
        db.session.rollback()
        reason = " ".join(str(error).split())[:300]
        yield problem(
            area, f"This check could not be completed: {reason}", "Fix the problems above first, then run it again."
        )
