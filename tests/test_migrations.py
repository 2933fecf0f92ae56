"""This app's own database as an earlier version left it is upgraded, and the newest migration goes back and forth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from apiflask import APIFlask
from flask_migrate import downgrade, upgrade
from psycopg import sql
from psycopg.rows import dict_row

from app import create_app
from app.config import Settings
from app.demo.servers import EmbeddedPostgres
from app.extensions import db
from app.models import Base
from app.services.audit import audit, audit_chain
from app.services.backups import backups
from app.services.installation import settings as installation
from app.services.people import admins, tokens
from app.services.schedules import schedules
from tests.support.databases import fresh_database, psql

DUMP = Path(__file__).parent / "data" / "metadata_0004.sql"
TABLES = {
    "admin_invitations", "admin_sessions", "admins", "api_tokens", "audit_log", "backup_history", "backup_schedules",
    "backup_settings", "backup_slots", "notifications", "restores", "ticks",
}  # fmt: skip

Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture
def metadata_url(pg18: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a database of migration 0004."""
    with fresh_database(pg18) as url:
        psql(pg18.bin_dir, url, DUMP.read_bytes())
        yield url


@pytest.fixture
def old_app(settings: Settings) -> Iterator[APIFlask]:
    """The app, inside its context, on that database."""
    app = create_app(settings)
    with app.app_context():
        yield app
        db.session.remove()
        db.engine.dispose()


def all_rows(url: str) -> Rows:
    """Return the rows of each table of the old database, in the order of their first column that tells them apart."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return {
            name: connection.execute(
                sql.SQL("SELECT * FROM {0} ORDER BY to_jsonb({0}) ->> {1}").format(
                    sql.Identifier(name), "name" if name == "ticks" else "id"
                )
            ).fetchall()
            for name in sorted(TABLES)
        }


def only_old_columns(rows: Rows, old: Rows) -> Rows:
    """Return the rows with the columns that the old ones have."""
    return {name: [{column: row[column] for column in old[name][0]} for row in found] for name, found in rows.items()}


def differences() -> list[Any]:
    """Return what the database lacks of the models, or has besides."""
    with db.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)
    return found


def test_an_old_database_is_upgraded_and_keeps_its_rows(old_app: APIFlask, metadata_url: str) -> None:
    old = all_rows(metadata_url)
    assert all(old.values()), "each table has a row to lose"

    upgrade()

    assert only_old_columns(all_rows(metadata_url), old) == old
    assert differences() == []


def test_the_app_works_on_an_upgraded_database(old_app: APIFlask, metadata_url: str) -> None:
    old = all_rows(metadata_url)
    upgrade()
    assert {row.id for row in backups.list_backups().items} == {row["id"] for row in old["backup_history"]}
    assert {row.id for row in schedules.list_schedules().items} == {row["id"] for row in old["backup_schedules"]}
    assert {row.email for row in admins.list_admins()} == {row["email"] for row in old["admins"]}
    assert {(row.id, row.expires_at) for row in tokens.list_tokens()} == {(row["id"], None) for row in old["api_tokens"]}
    assert audit.list_entries().total == len(old["audit_log"])
    assert (audit_chain.seal(), audit_chain.verify().problem) == (len(old["audit_log"]), None)
    kept = installation.view()
    assert (kept.keep_hourly, kept.undo_hours, kept.audit_years, kept.recipients) == (24, 48, 7, ["ops@example.com"])


def test_the_newest_migration_goes_back_and_forth_and_keeps_the_rows(old_app: APIFlask, metadata_url: str) -> None:
    old = all_rows(metadata_url)
    upgrade()
    audit_chain.seal()
    db.session.remove()

    downgrade()
    assert only_old_columns(all_rows(metadata_url), old) == old
    assert differences() != []

    upgrade()
    assert only_old_columns(all_rows(metadata_url), old) == old
    assert differences() == []
