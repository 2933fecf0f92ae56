"""Run the migrations inside the app, by Flask-Migrate."""

from __future__ import annotations

from alembic import context
from flask import current_app

MIGRATION_LOCK = 7_390_104_822_517


def run() -> None:
    """Migrate in one transaction. Two containers that start at once take turns."""
    database = current_app.extensions["migrate"].db
    with database.engine.connect() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({MIGRATION_LOCK})")
        connection.commit()
        context.configure(connection=connection, target_metadata=database.metadatas[None], compare_server_default=True)
        with context.begin_transaction():
            context.run_migrations()
        connection.exec_driver_sql(f"SELECT pg_advisory_unlock({MIGRATION_LOCK})")


if context.is_offline_mode():
    raise SystemExit("Migrations need a database: set DATABASE_URL and leave out --sql.")
run()
