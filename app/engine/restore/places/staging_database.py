"""The staging database: created like the one it will replace, filled by others, dropped or swapped in."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg import conninfo, sql

from ...errors import RestoreError, SourceError, Subject
from ...source.postgres import Connection, connect, one_line

MAINTENANCE_DATABASES = ("postgres", "template1")
NAME_BYTES = 63
SANDBOX = "restore_sandbox_"
SESSIONS_END_SECONDS = 60.0


def derived_name(name: str, suffix: str, run_id: UUID) -> str:
    """Return a name for this run's database beside `live`, within PostgreSQL's 63 bytes."""
    tail = f"_{suffix}_{run_id.hex[:12]}"
    return name.encode()[: NAME_BYTES - len(tail)].decode("utf-8", "ignore") + tail


def with_database(url: str, database: str, user: str | None = None, password: str | None = None) -> str:
    """Return a conninfo of a libpq URL's server for another database, and if given for another role."""
    changes: dict[str, Any] = {"dbname": database}
    if user is not None:
        changes |= {"user": user, "password": password}
    return conninfo.make_conninfo(url, **changes)


@contextlib.contextmanager
def maintenance(url: str, run_id: UUID) -> Iterator[Connection]:
    """Yield a connection to another database of the live database's server. Raise SourceError."""
    problem: SourceError | None = None
    for name in MAINTENANCE_DATABASES:
        try:
            connection = connect(with_database(url, name), f"restore {run_id}")
        except SourceError as error:
            problem = problem or error
            continue
        try:
            yield connection
        finally:
            connection.close()
        return
    assert problem is not None
    raise problem


_NO_SUCH_LOCALE = (
    psycopg.errors.WrongObjectType,
    psycopg.errors.FeatureNotSupported,
    psycopg.errors.InvalidParameterValue,
)


@dataclass(frozen=True)
class Rights:
    """What our role may do on the server."""

    role: str
    superuser: bool
    createdb: bool
    createrole: bool
    owns_database: bool


_RIGHTS: LiteralString = """
SELECT r.rolname AS role, r.rolsuper AS superuser, r.rolcreatedb OR r.rolsuper AS createdb,
       r.rolcreaterole OR r.rolsuper AS createrole, r.rolsuper OR pg_has_role(r.oid, d.datdba, 'USAGE') AS owns_database
FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()
"""


def rights(connection: Connection) -> Rights:
    """Return what the role of a connection to the live database may do."""
    row = connection.execute(_RIGHTS).fetchone()
    assert row is not None
    return Rights(**row)


def create(connection: Connection, name: str, facts: dict[str, Any], owner: str, live: dict[str, Any]) -> list[str]:
    """Create an empty database as `facts` describe one, in the tablespace of the live one. Return as sentences what is
    different. `connection` is a maintenance connection.

    Raise RestoreError if the server refuses.
    """
    warnings, space = [], str(live["tablespace"])
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} OWNER {}").format(
        sql.Identifier(name), sql.Literal(facts["encoding"]), sql.Identifier(owner)
    )
    if space != "pg_default":  # naming the default one needs a right that few roles have
        if _may_create_in(connection, space):
            statement += sql.SQL(" TABLESPACE {}").format(sql.Identifier(space))
        else:
            warnings.append(
                f"The database is in the server's default tablespace now: GRANT CREATE ON TABLESPACE {space} to the role in "
                f"{Subject.SOURCE}, for the next restore."
            )
    try:
        try:
            connection.execute(statement + _locale(facts))
        except _NO_SUCH_LOCALE as error:
            connection.execute(statement + _locale(live))
            warnings.append(
                "The backup's locale is not available on this server; the restored database uses the live database's "
                f"collation ({one_line(error)})."
            )
    except psycopg.Error as error:
        raise RestoreError(f"The staging database could not be created: {one_line(error)}") from error
    return warnings


def _may_create_in(connection: Connection, tablespace: str) -> bool:
    query = "SELECT has_tablespace_privilege(spcname, 'CREATE') AS may FROM pg_tablespace WHERE spcname = %s"
    row = connection.execute(query, [tablespace]).fetchone()
    return row is not None and bool(row["may"])


def _locale(facts: dict[str, Any]) -> sql.Composed:
    """Return the options of CREATE DATABASE for the locale in a database's facts."""
    found = sql.SQL(" LC_COLLATE {} LC_CTYPE {}").format(sql.Literal(facts["lc_collate"]), sql.Literal(facts["lc_ctype"]))
    provider = {"i": "icu", "b": "builtin"}.get(facts.get("locale_provider", "c"))
    if provider is None:
        return found
    option = sql.SQL(" LOCALE_PROVIDER {} ICU_LOCALE {}" if provider == "icu" else " LOCALE_PROVIDER {} BUILTIN_LOCALE {}")
    return found + option.format(sql.Identifier(provider), sql.Literal(facts["locale"]))


_END_SESSIONS: LiteralString = """
SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity
WHERE datname = %s AND pg_catalog.pg_has_role(usesysid, 'USAGE')
"""


def drop(connection: Connection, name: str, oid: int | None = None) -> None:
    """Drop a database and end its sessions, over a maintenance connection; with an oid, only if it is the one."""
    row = connection.execute("SELECT oid::bigint AS oid FROM pg_database WHERE datname = %s", [name]).fetchone()
    if row is None or (oid is not None and row["oid"] != oid):
        return
    _end_prepared(connection, name)
    _end_replication(connection, name)
    until = time.monotonic() + SESSIONS_END_SECONDS
    while True:
        try:
            _drop_now(connection, name)
            return
        except psycopg.errors.ObjectInUse:
            # FORCE waits 5 s; a session that is sending or sorting much takes longer to notice that it was ended.
            if time.monotonic() > until:
                raise
            time.sleep(0.2)  # a slot in use is refused at once


def _drop_now(connection: Connection, name: str) -> None:
    statement = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name))
    try:
        connection.execute(statement + sql.SQL(" WITH (FORCE)"))
    except psycopg.errors.InsufficientPrivilege:
        # To all but superusers FORCE is refused while autovacuum works there, which a DROP without it ends by itself.
        connection.execute(_END_SESSIONS, [name])
        connection.execute(statement)


def _end_prepared(connection: Connection, name: str) -> None:
    """Undo the prepared transactions of a database, which FORCE does not end."""
    prepared = connection.execute("SELECT gid, owner FROM pg_prepared_xacts WHERE database = %s", [name]).fetchall()
    if prepared:
        url = with_database(connection.info.dsn, name, connection.info.user, connection.info.password)
        with connect(url, "restore clean-up") as inside:
            for row in prepared:
                inside.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(row["owner"])))
                inside.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(row["gid"])))
                inside.execute("RESET ROLE")


_SUBSCRIPTIONS: LiteralString = """
SELECT s.subname AS name, pg_get_userbyid(s.subowner) AS owner, s.subenabled AS enabled,
       pg_has_role(s.subowner, 'USAGE') AS is_ours
FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = %s ORDER BY 1
"""
_END_SLOTS: LiteralString = """
SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = %s AND active_pid IS NOT NULL
"""


def subscriptions(connection: Connection, name: str) -> list[dict[str, Any]]:
    """Return a database's subscriptions, over any connection to its server: name, owner, enabled, is_ours."""
    return connection.execute(_SUBSCRIPTIONS, [name]).fetchall()


def _end_replication(connection: Connection, name: str) -> None:
    """Drop a database's subscriptions, which would keep it from being dropped, and end what reads from its logical slots.

    The slots at the publishers stay: the live database may go on with them. Raise RestoreError for what is not ours.
    """
    found = subscriptions(connection, name)
    others = [row for row in found if not row["is_ours"]]
    if others:
        raise RestoreError(
            f"The database {name} can't be dropped, because the role {others[0]['owner']} owns its subscription "
            f"{others[0]['name']}: have a superuser ALTER SUBSCRIPTION … DISABLE, SET (slot_name = NONE) and DROP it there."
        )
    if found:
        url = with_database(connection.info.dsn, name, connection.info.user, connection.info.password)
        with connect(url, "restore clean-up") as inside:
            for row in found:
                subscription = sql.SQL("SUBSCRIPTION {}").format(sql.Identifier(row["name"]))
                inside.execute(sql.SQL("ALTER {} DISABLE").format(subscription))
                inside.execute(sql.SQL("ALTER {} SET (slot_name = NONE)").format(subscription))
                inside.execute(sql.SQL("DROP {}").format(subscription))
    with contextlib.suppress(psycopg.errors.InsufficientPrivilege):  # DROP DATABASE says it if one is still in use
        connection.execute(_END_SLOTS, [name])


def disable_subscriptions(connection: Connection, name: str) -> list[str]:
    """Disable the subscriptions of a staging database, and return warnings. `connection` leads into it.

    pg_dump writes them disabled; a dump from elsewhere may not.
    """
    warnings = []
    for row in subscriptions(connection, name):
        if row["enabled"]:
            statement = sql.SQL("ALTER SUBSCRIPTION {} DISABLE").format(sql.Identifier(row["name"]))
            connection.execute(statement)
        warnings.append(
            f"The restored subscription {row['name']} is disabled: ALTER SUBSCRIPTION {row['name']} ENABLE, REFRESH "
            "PUBLICATION when nothing else uses its slot."
        )
    return warnings


_RELATIONS_OF: LiteralString = """
SELECT pg_catalog.convert_to(pg_catalog.format('ALTER TABLE %%s OWNER TO %%I', c.oid::pg_catalog.regclass, %s::text),
                             pg_catalog.pg_client_encoding()) AS statement
FROM pg_catalog.pg_class c
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND pg_catalog.pg_get_userbyid(c.relowner) = %s
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                  AND d.objid = c.oid AND d.deptype IN ('a', 'i') AND c.relkind = 'S')
ORDER BY c.oid
"""
REASSIGNED_AT_ONCE = 20


def give_all(connection: Connection, role: str, owner: str) -> None:
    """Give all that a role owns in a staging database to another one, over an autocommit connection to it.

    REASSIGN OWNED holds a lock on every table, index and sequence until its end: more than the server can hold if there are
    thousands. So those go in batches before it, which no client sees, since none uses the database yet.
    """
    statements = [row["statement"] for row in connection.execute(_RELATIONS_OF, [owner, role]).fetchall()]
    for start in range(0, len(statements), REASSIGNED_AT_ONCE):
        with connection.transaction():
            for statement in statements[start : start + REASSIGNED_AT_ONCE]:
                connection.execute(statement, prepare=False)
    connection.execute(sql.SQL("REASSIGN OWNED BY {} TO {}").format(sql.Identifier(role), sql.Identifier(owner)))


@dataclass(frozen=True)
class Sandbox:
    """A temporary role that may do nothing but own the staging database."""

    role: str
    password: str


def sandbox_name(run_id: UUID) -> str:
    """Return the name of a run's temporary role."""
    return f"{SANDBOX}{run_id.hex[:12]}"


def create_sandbox(connection: Connection, run_id: UUID) -> Sandbox:
    """Create the run's temporary role, over a maintenance connection. Raise RestoreError if the server refuses."""
    sandbox = Sandbox(sandbox_name(run_id), secrets.token_urlsafe(24))
    role = sql.Identifier(sandbox.role)
    try:
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD {}").format(
                role, sql.Literal(sandbox.password)
            )
        )
        options = sql.SQL(" WITH INHERIT TRUE, SET TRUE" if connection.info.server_version >= 160000 else "")
        connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(role) + options)
    except psycopg.Error as error:
        raise RestoreError(f"The sandbox role for an untrusted archive could not be created: {one_line(error)}") from error
    return sandbox


def drop_sandbox(connection: Connection, run_id: UUID) -> None:
    """Drop the run's temporary role, over a maintenance connection, if it exists."""
    name = sandbox_name(run_id)
    if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [name]).fetchone() is not None:
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
