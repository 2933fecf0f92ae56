"""Check the metadata database: reachable, migrated, durable, and with an admin who can sign in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import current_app
from psycopg.rows import dict_row
from sqlalchemy import func, select

from app.config import SAME_DATABASE, ConfigError, Settings
from app.engine.source.postgres import Connection
from app.extensions import db
from app.models import Admin
from app.services.checkup.findings import Finding, fine, problem, warning
from app.services.installation.source import CONNECT_SECONDS, source_problem

AREA = "DATABASE_URL"
OLDEST_SERVER = 14
SKEW_NOTICED, SKEW_HARMFUL = timedelta(seconds=2), timedelta(seconds=60)
SET_THE_CLOCK = "Let NTP (systemd-timesyncd, chrony) set the clocks of all machines."


def look(settings: Settings) -> Iterator[Finding]:
    """Yield the findings; only the first if the database is unreachable."""
    try:
        source_problem(settings)
    except ConfigError as error:
        text = error.problems[0].removeprefix(f"{AREA}: ")
        if error.problems == [SAME_DATABASE]:
            yield problem(AREA, text, "Create a second database (CREATE DATABASE motovaultpro_backup) and name it here.")
        else:
            yield problem(AREA, text, "Check that PostgreSQL runs, and host, port, user and password in the URL.")
        return
    options: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "autocommit": True, "row_factory": dict_row}
    with psycopg.connect(settings.metadata_dsn, **options) as connection:
        version = connection.info.server_version
        yield fine(
            AREA,
            f"The metadata database is reachable, and is not the source (PostgreSQL {version // 10000}.{version % 10000}).",
        )
        yield from old_server(AREA, version)
        yield from durability(AREA, connection)
        yield clock_of(AREA, "the PostgreSQL of the metadata", connection)
    yield from _migrations()


def old_server(area: str, version: int) -> Iterator[Finding]:
    """Yield a finding if a server is older than the oldest supported version."""
    if version // 10000 < OLDEST_SERVER:
        yield warning(
            area,
            f"PostgreSQL {version // 10000} is older than {OLDEST_SERVER}, the oldest that is supported.",
            "Upgrade it.",
        )


def durability(area: str, connection: Connection) -> Iterator[Finding]:
    """Yield whether the server's committed writes survive a crash."""
    off = [
        name
        for name in ("fsync", "full_page_writes")
        if connection.execute("SELECT current_setting(%s) = 'off' AS off", [name]).fetchone() == {"off": True}
    ]
    if off:
        yield problem(
            area,
            f"The server runs with {' and '.join(off)} off: a power cut can destroy all of its databases.",
            f"Set {', '.join(f'{name} = on' for name in off)} in postgresql.conf and restart it.",
        )
    else:
        yield fine(area, "The server flushes its writes to disk (fsync is on).")


def clock(area: str, whose: str, there: datetime, before: datetime, after: datetime) -> Finding:
    """Compare another machine's time with ours before and after asking for it."""
    skew = max(before - there, there - after, timedelta(0))
    if skew > SKEW_HARMFUL:
        text = f"The clock of {whose} is {skew.total_seconds():.0f} s off ours: schedules and heartbeats will be wrong."
        return problem(area, text, SET_THE_CLOCK)
    if skew > SKEW_NOTICED:
        return warning(area, f"The clock of {whose} is {skew.total_seconds():.0f} s off ours.", SET_THE_CLOCK)
    return fine(area, f"The clock of {whose} agrees with ours.")


def clock_of(area: str, whose: str, connection: Connection) -> Finding:
    """Compare a database server's clock with ours."""
    before = datetime.now(UTC)
    row = connection.execute("SELECT extract(epoch FROM clock_timestamp())::float8 AS now").fetchone()
    assert row is not None
    return clock(area, whose, datetime.fromtimestamp(row["now"], UTC), before, datetime.now(UTC))


def _migrations() -> Iterator[Finding]:
    folder = Path(current_app.extensions["migrate"].directory)
    heads = set(ScriptDirectory(str(folder)).get_heads())
    with db.engine.connect() as connection:
        present = set(MigrationContext.configure(connection).get_current_heads())
    advice = "Stop web, worker and scheduler, run `flask db upgrade`, start them again."
    if not present:
        yield problem(AREA, "The tables are missing.", "Run `flask db upgrade`.")
        return
    if present != heads:
        text = f"The tables are those of version {', '.join(sorted(present))}, not {', '.join(sorted(heads))}."
        yield problem(AREA, text, advice)
        return
    yield fine(AREA, f"The tables are up to date ({', '.join(sorted(heads))}).")
    admins = db.session.scalar(select(func.count()).select_from(Admin).where(Admin.disabled_at.is_(None))) or 0
    if admins == 0:
        yield problem("ADMIN_EMAIL", "Nobody can sign in: there is no admin.", "Run `flask admin create EMAIL`.")
    else:
        yield fine("ADMIN_EMAIL", f"{admins} admin{'s' if admins > 1 else ''} can sign in.")
