"""What the settings name as the source. Its database must never be the one that holds the history."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from app.config import SAME_DATABASE, ConfigError, Settings
from app.engine.source.preflight import Source

CONNECT_SECONDS = 5


@dataclass(frozen=True)
class DatabaseIdentity:
    """A database's identity: its cluster's identifier and its oid there. It is the same through a connection pooler, by
    socket or port, and under any name of the host."""

    system_identifier: int
    oid: int


def source_of(settings: Settings) -> Source:
    """Describe to the engine what is backed up, which is also where a restore goes."""
    return Source(settings.source_url, settings.documents_dir, settings.app_name, settings.pg_bin_dir)


def source_problem(settings: Settings) -> str | None:
    """Compare the two databases. Return what prevents reading the source, or None.

    Raise ConfigError if the metadata database can't be reached, or is the source.
    """
    try:
        metadata = identify(settings.metadata_dsn)
    except psycopg.Error as error:
        detail = _one_line(settings, error)
        raise ConfigError([f"DATABASE_URL: the metadata database can't be reached: {detail}"]) from None
    try:
        source = identify(settings.source_url)
    except psycopg.Error as error:
        return f"BACKUP_SOURCE_URL: the database to back up can't be reached: {_one_line(settings, error)}"
    if source == metadata:
        raise ConfigError([SAME_DATABASE])
    return None


def identify(url: str) -> DatabaseIdentity:
    """Return the identity of a libpq URL's database. Raise psycopg.Error."""
    with psycopg.connect(url, connect_timeout=CONNECT_SECONDS) as connection:
        row = connection.execute(
            "SELECT c.system_identifier, d.oid FROM pg_control_system() c, pg_database d"
            " WHERE d.datname = current_database()"
        ).fetchone()
    assert row is not None
    return DatabaseIdentity(row[0], row[1])


def _one_line(settings: Settings, error: psycopg.Error) -> str:
    return settings.redact(" ".join(str(error).split()))
