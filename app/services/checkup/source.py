"""Check the source database: its role's rights, and a matching pg_dump."""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString
from uuid import uuid4

from app.config import Settings
from app.engine.errors import SourceError
from app.engine.restore.places.staging_database import Rights, maintenance, rights
from app.engine.restore.preview.obstacles import ServerObstacles
from app.engine.source.clients import find_client
from app.engine.source.postgres import Connection, connect
from app.services.checkup import metadata
from app.services.checkup.findings import Finding, fine, problem, warning

AREA = "BACKUP_SOURCE_URL"
_UNREADABLE: LiteralString = """
SELECT format('%I.%I', n.nspname, c.relname) AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'S') AND c.relpersistence <> 't'
  AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  AND NOT (has_schema_privilege(n.oid, 'USAGE')
           AND CASE c.relkind WHEN 'S' THEN has_sequence_privilege(c.oid, 'SELECT')
                              ELSE has_table_privilege(c.oid, 'SELECT') END)
ORDER BY 1
"""
_ROW_SECURITY: LiteralString = """
SELECT format('%I.%I', n.nspname, c.relname) AS name
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles r ON r.rolname = current_user
WHERE c.relrowsecurity AND NOT r.rolsuper AND NOT r.rolbypassrls
  AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE'))
ORDER BY 1
"""


def look(settings: Settings) -> Iterator[Finding]:
    """Yield the findings."""
    try:
        connection = connect(settings.source_url, "doctor")
    except SourceError as error:
        yield problem(
            AREA, error.problem.detail, "Check that PostgreSQL runs, and host, port, user and password in the URL."
        )
        return
    with connection:
        version = connection.info.server_version
        yield fine(AREA, f"The database is reachable (PostgreSQL {version // 10000}.{version % 10000}).")
        yield from metadata.old_server(AREA, version)
        yield _client(settings, version)
        yield from _backup_rights(connection)
        yield from _restore_rights(settings, connection)
        yield from metadata.durability(AREA, connection)
        yield metadata.clock_of(AREA, "the PostgreSQL that is backed up", connection)


def _client(settings: Settings, version: int) -> Finding:
    major = version // 10000
    try:
        client = find_client(major, settings.pg_bin_dir)
    except SourceError as error:
        return problem(
            "PG_BIN_DIR", error.problem.detail, f"Install the client of PostgreSQL {major}, or point PG_BIN_DIR at it."
        )
    text = f"pg_dump {client.full_version} in {client.pg_dump.parent} fits the server."
    if client.version > major:
        return warning(
            "PG_BIN_DIR",
            f"{text} It is newer than the server, whose own psql may not load such a dump unchanged; a restore with "
            "this software does.",
            f"Install the client of PostgreSQL {major} to have both.",
        )
    return fine("PG_BIN_DIR", text)


def _backup_rights(connection: Connection) -> Iterator[Finding]:
    missing = [row["name"] for row in connection.execute(_UNREADABLE)]
    hidden = [row["name"] for row in connection.execute(_ROW_SECURITY)]
    role = rights(connection).role
    if missing:
        yield problem(
            AREA,
            f"Backups will fail: the role {role} may not read {_some(missing)}.",
            f"As a superuser: GRANT pg_read_all_data TO {role};",
        )
    if hidden:
        yield problem(
            AREA,
            f"Backups will fail: row security hides rows of {_some(hidden)} from the role {role}.",
            f"As a superuser: ALTER ROLE {role} BYPASSRLS;",
        )
    if not missing and not hidden:
        yield fine(AREA, f"For backups: the role {role} may read every table and sequence.")


def _restore_rights(settings: Settings, connection: Connection) -> Iterator[Finding]:
    found = rights(connection)
    row = connection.execute("SELECT pg_is_in_recovery() AS standby, current_database() AS name").fetchone()
    assert row is not None
    if row["standby"]:
        yield warning(
            AREA,
            "The server is a standby: it can be backed up, but nothing can be restored into it.",
            "Restore to the primary.",
        )
        return
    if found.superuser:
        first = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = current_user AND oid = 10").fetchone()
        yield warning(
            AREA,
            f"The role {found.role} is a superuser: whoever takes over this software controls the server.",
            # PostgreSQL refuses to revoke it from the role that initialised the cluster.
            "Give the database to a role of its own: docs/operators-guide.md, Rights in PostgreSQL, has the statements."
            if first
            else f"As another superuser: ALTER ROLE {found.role} NOSUPERUSER CREATEDB CREATEROLE;",
        )
    yield from _staging(settings, found, str(row["name"]))
    obstacles = ServerObstacles(connection, may_run_as_us=True)
    obstacles.look(None, None)
    for text in obstacles.blockers if found.owns_database else []:
        yield warning(AREA, f"No restore is possible at the moment: {text}", "It may have ended before the next restore.")


def _staging(settings: Settings, found: Rights, database: str) -> Iterator[Finding]:
    if not found.owns_database:
        yield problem(
            AREA,
            f"Restores are impossible: the role {found.role} does not own the database {database}.",
            f"As a superuser: ALTER DATABASE {database} OWNER TO {found.role}; or name the owner in the URL.",
        )
        return
    if not found.createdb:
        yield warning(
            AREA,
            f"The role {found.role} may not create databases: a restore runs inside the live one, the app waits for it, and "
            "there is no instant undo.",
            f"As a superuser: ALTER ROLE {found.role} CREATEDB;",
        )
        return
    try:
        with maintenance(settings.source_url, uuid4()):
            yield fine(AREA, f"For restores: {found.role} owns the database and may create the one beside it (CREATEDB).")
    except SourceError as error:
        text = f"A restore needs the database postgres or template1, and can't connect to it: {error.problem.detail}"
        yield problem(AREA, text, f"GRANT CONNECT ON DATABASE postgres TO {found.role}; and check pg_hba.conf.")
    if found.createrole:
        yield fine(AREA, "For archives from elsewhere: it may create their sandbox role (CREATEROLE).")
    else:
        yield warning(
            AREA,
            f"The role {found.role} may not create roles: archives from elsewhere can only be restored after an admin has "
            "trusted them.",
            f"As a superuser: ALTER ROLE {found.role} CREATEROLE;",
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
