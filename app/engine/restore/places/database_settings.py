"""What a dump does not hold or create: a database's own settings, grants and comment, and the schema public's grants."""

from __future__ import annotations

import contextlib
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from ...source.postgres import Connection, one_line

_ROLES_WITH_SETTINGS: LiteralString = """
SELECT pg_get_userbyid(s.setrole) AS role FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
WHERE d.datname = %s AND s.setrole <> 0
"""
_GRANTED: LiteralString = """
SELECT DISTINCT CASE WHEN x.grantee = 0 THEN NULL ELSE pg_get_userbyid(x.grantee) END AS role
FROM pg_database d, aclexplode(d.datacl) x WHERE d.datname = %s
"""
_DEFAULT_GRANTS: LiteralString = """
SELECT CASE WHEN x.grantee = 0 THEN NULL ELSE pg_get_userbyid(x.grantee) END AS role, x.privilege_type AS privilege
FROM pg_database d, aclexplode(acldefault('d', d.datdba)) x WHERE d.datname = %s
"""
_PUBLIC_GRANTED: LiteralString = """
SELECT DISTINCT CASE WHEN x.grantee = 0 THEN NULL ELSE pg_get_userbyid(x.grantee) END AS role
FROM pg_namespace n, aclexplode(n.nspacl) x WHERE n.nspname = 'public'
"""
_PUBLIC_AT_FIRST: LiteralString = """
SELECT CASE WHEN x.grantee = 0 THEN NULL ELSE pg_get_userbyid(x.grantee) END AS role, x.privilege_type AS privilege
FROM pg_namespace n JOIN pg_init_privs i ON i.objoid = n.oid AND i.classoid = 'pg_namespace'::regclass,
     aclexplode(i.initprivs) x WHERE n.nspname = 'public'
"""


def apply_settings(connection: Connection, name: str, facts: dict[str, Any]) -> list[str]:
    """Give a database the settings, grants and comment of `facts`, over a maintenance connection. Return warnings."""
    warnings: list[str] = []
    database = sql.Identifier(name)
    statements: list[sql.Composed] = []
    for entry in facts.get("settings") or []:
        for setting in entry["settings"]:
            key, _, value = setting.partition("=")
            scope = (
                sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(entry["role"]), database)
                if entry["role"]
                else sql.SQL("ALTER DATABASE {}").format(database)
            )
            statements.append(scope + _set_clause(key, value))
    if facts.get("connection_limit", -1) >= 0:
        statements.append(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(database, facts["connection_limit"]))
    if facts.get("comment"):
        statements.append(sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(facts["comment"])))
    statements += _grants(connection, database, facts.get("acl"), warnings)
    for statement in statements:
        try:
            with connection.transaction():
                connection.execute(statement)
        except psycopg.Error as error:
            warnings.append(f"A setting of the database was not taken over: {one_line(error)}")
    return warnings


def reset_settings(connection: Connection, name: str) -> None:
    """Take from a database what a new one would not have (settings, grants, comment), in a transaction of its owner."""
    database = sql.Identifier(name)
    statements = [
        sql.SQL("ALTER DATABASE {} RESET ALL").format(database),
        sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(database),
        sql.SQL("COMMENT ON DATABASE {} IS NULL").format(database),
    ]
    for row in connection.execute(_ROLES_WITH_SETTINGS, [name]).fetchall():
        statements.append(sql.SQL("ALTER ROLE {} IN DATABASE {} RESET ALL").format(sql.Identifier(row["role"]), database))
    for row in connection.execute(_GRANTED, [name]).fetchall():
        statements.append(_revoke(sql.SQL("DATABASE {}").format(database), row["role"]))
    for row in connection.execute(_DEFAULT_GRANTS, [name]).fetchall():
        statements.append(_grant(sql.SQL("DATABASE {}").format(database), row))
    for statement in statements:
        with contextlib.suppress(psycopg.Error), connection.transaction():
            connection.execute(statement)


def reset_public_schema(connection: Connection) -> None:
    """Give the schema public, which no dump creates, its initial grants, in a transaction of the database's owner."""
    public = sql.SQL("SCHEMA public")
    statements = [sql.SQL("COMMENT ON SCHEMA public IS {}").format(sql.Literal("standard public schema"))]
    statements += [_revoke(public, row["role"]) for row in connection.execute(_PUBLIC_GRANTED).fetchall()]
    statements += [_grant(public, row) for row in connection.execute(_PUBLIC_AT_FIRST).fetchall()]
    for statement in statements:
        with contextlib.suppress(psycopg.Error), connection.transaction():
            connection.execute(statement)


def _revoke(what: sql.Composable, role: str | None) -> sql.Composed:
    return sql.SQL("REVOKE ALL ON {} FROM {} CASCADE").format(what, sql.Identifier(role) if role else sql.SQL("PUBLIC"))


def _grant(what: sql.Composable, row: dict[str, Any]) -> sql.Composed:
    to = sql.Identifier(row["role"]) if row["role"] else sql.SQL("PUBLIC")
    return sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(row["privilege"]), what, to)


_LISTS = {"search_path", "temp_tablespaces", "session_preload_libraries", "local_preload_libraries", "datestyle"}


def _set_clause(key: str, value: str) -> sql.Composed:
    if key.lower() in _LISTS:  # stored as a list whose items are already quoted as far as they need it
        return sql.SQL(" SET {} TO ").format(sql.Identifier(key)) + sql.SQL(", ").join(
            sql.Literal(item.strip().strip('"')) for item in value.split(",")
        )
    return sql.SQL(" SET {} TO {}").format(sql.Identifier(key), sql.Literal(value))


def _grants(
    connection: Connection, database: sql.Identifier, acl: list[str] | None, warnings: list[str]
) -> list[sql.Composed]:
    if acl is None:
        return []
    statements: list[sql.Composed] = [sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database)]
    for item in acl:
        try:
            rows = connection.execute(
                "SELECT CASE WHEN grantee = 0 THEN NULL ELSE pg_get_userbyid(grantee) END AS role,"
                " privilege_type AS privilege, is_grantable AS grantable FROM aclexplode(ARRAY[%s::aclitem])",
                [item],
            ).fetchall()
        except psycopg.Error as error:
            warnings.append(f"A grant on the database was not taken over: {one_line(error)}")
            continue
        for row in rows:
            to = sql.Identifier(row["role"]) if row["role"] else sql.SQL("PUBLIC")
            option = sql.SQL(" WITH GRANT OPTION" if row["grantable"] else "")
            grant = sql.SQL("GRANT {} ON DATABASE {} TO {}").format(sql.SQL(row["privilege"]), database, to)
            statements.append(grant + option)
    return statements
