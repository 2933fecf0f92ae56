"""Hands over an untrusted dump's objects from the sandbox role to the live database's owner.

The owner may be able to do more than own: with CREATEROLE, code that runs with the owner's rights can make roles. So nobody
but the owner may have any part in what the dump made: grants in it are undone while it is still the sandbox role's, and what
would run with its owner's rights may be called by nobody else.
"""

from __future__ import annotations

import time
from typing import LiteralString

import psycopg
from psycopg import sql

from ...errors import RestoreError
from ...source.postgres import Connection, one_line
from . import staging_database
from .staging_database import Sandbox

SESSIONS_END_SECONDS = 30.0

_SESSIONS: LiteralString = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usesysid = (SELECT oid FROM pg_roles WHERE rolname = %s)
"""
# Everything with grants that the role owns. A routine's name with its arguments has schemas, as only pg_catalog is searched.
_GRANTED: LiteralString = """
WITH owned AS (
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END AS kind, format('%%I.%%I', n.nspname, relname) AS name,
           relacl AS acl, relowner AS owner, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END AS letter
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL  -- a table's REVOKE takes its columns' grants, too
    SELECT 'TABLE', format('%%I.%%I', n.nspname, relname), attacl, relowner, 'r'
    FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
    UNION ALL SELECT 'ROUTINE', oid::regprocedure::text, proacl, proowner, 'f' FROM pg_proc
    UNION ALL SELECT 'TYPE', format('%%I.%%I', n.nspname, typname), typacl, typowner, 'T'
    FROM pg_type t JOIN pg_namespace n ON n.oid = typnamespace
    UNION ALL SELECT 'SCHEMA', quote_ident(nspname), nspacl, nspowner, 'n' FROM pg_namespace
    UNION ALL SELECT 'LANGUAGE', quote_ident(lanname), lanacl, lanowner, 'l' FROM pg_language
    UNION ALL SELECT 'FOREIGN SERVER', quote_ident(srvname), srvacl, srvowner, 'S' FROM pg_foreign_server
    UNION ALL SELECT 'FOREIGN DATA WRAPPER', quote_ident(fdwname), fdwacl, fdwowner, 'F' FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'LARGE OBJECT', oid::text, lomacl, lomowner, 'L' FROM pg_largeobject_metadata
)
SELECT o.kind, o.name, x.is_default, CASE WHEN x.grantee = 0 THEN NULL ELSE pg_get_userbyid(x.grantee)::text END AS grantee,
       x.privilege
FROM owned o CROSS JOIN LATERAL (
    SELECT DISTINCT false AS is_default, grantee, NULL AS privilege FROM aclexplode(o.acl)
    UNION ALL SELECT true, grantee, privilege_type FROM aclexplode(acldefault(o.letter::"char", o.owner))
) x
WHERE o.acl IS NOT NULL AND o.owner = (SELECT oid FROM pg_roles WHERE rolname = %s)
ORDER BY o.kind <> 'SCHEMA', o.kind, o.name, x.is_default  -- a schema first: to name what is in it takes a right to it
"""
# What runs a SECURITY DEFINER function for a caller without asking whether that one may call it: an aggregate (the right of
# its owner is asked for), and an index on a range.
_DEFINERS: LiteralString = """
WITH definer AS (
    SELECT oid FROM pg_proc WHERE prosecdef AND proowner = (SELECT oid FROM pg_roles WHERE rolname = %s)
)
SELECT 'ROUTINE' AS kind, oid::regprocedure::text AS name FROM definer
UNION ALL
SELECT 'ROUTINE', a.aggfnoid::regprocedure::text FROM pg_aggregate a
WHERE EXISTS (SELECT FROM definer d WHERE d.oid IN (aggtransfn, aggfinalfn, aggcombinefn, aggserialfn, aggdeserialfn,
                                                    aggmtransfn, aggminvtransfn, aggmfinalfn))
UNION ALL
SELECT 'TYPE', format('%%I.%%I', n.nspname, t.typname)
FROM pg_range r JOIN pg_type t ON t.oid IN (r.rngtypid, r.rngmultitypid) JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE t.typtype = 'r' AND EXISTS (SELECT FROM definer d WHERE d.oid IN (rngsubdiff, rngcanonical))
"""


def open_to(connection: Connection, inside: Connection, name: str, sandbox: Sandbox) -> None:
    """Let the sandbox role, and nobody else, into a new database: `connection` is a maintenance one, `inside` is there."""
    role, database = sql.Identifier(sandbox.role), sql.Identifier(name)
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    connection.execute(sql.SQL("GRANT CONNECT, CREATE, TEMPORARY ON DATABASE {} TO {}").format(database, role))
    inside.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(role))


def shut_out(connection: Connection, sandbox: Sandbox) -> None:
    """Keep the role from logging in again, whatever password it gives itself; a session that it has goes on."""
    connection.execute(sql.SQL("ALTER ROLE {} NOLOGIN").format(sql.Identifier(sandbox.role)))


def end_sessions(connection: Connection, role: str) -> None:
    """End all sessions of a role and wait until they are gone. Raise RestoreError if one stays."""
    until = time.monotonic() + SESSIONS_END_SECONDS
    while connection.execute(_SESSIONS, [role]).fetchall():
        if time.monotonic() > until:
            raise RestoreError(f"A session of the sandbox role {role} does not end; see pg_stat_activity, and try again.")
        time.sleep(0.05)


def hand_over(connection: Connection, inside: Connection, sandbox: Sandbox, name: str, owner: str) -> list[str]:
    """Give what the sandbox role made to the owner, without any grant; return warnings. The role's sessions have ended.

    `connection` is a maintenance connection, `inside` one to the staging database `name`. Raise psycopg.Error.
    """
    role, warnings = sql.Identifier(sandbox.role), []
    if undone := _undo_grants(inside, sandbox.role):
        warnings.append(f"Grants that the archive made behind its text's back were undone: {_some(undone)}.")
    if shut := _shut_definers(inside, sandbox.role):
        warnings.append(
            f"These run with the rights of the database's owner and may be called by the owner only: {_some(shut)}. "
            "Read them before you GRANT EXECUTE to others."
        )
    staging_database.give_all(inside, sandbox.role, owner)
    inside.execute(sql.SQL("REVOKE ALL ON SCHEMA public FROM {}").format(role))
    inside.execute(sql.SQL("DROP OWNED BY {}").format(role))
    database = sql.Identifier(name)
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(database, role))
    # As CREATE DATABASE leaves it; the live database's own grants follow with its settings.
    connection.execute(sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO PUBLIC").format(database))
    return warnings


def _undo_grants(inside: Connection, role: str) -> list[str]:
    """Make the grants on everything that a role owns what they are at first. Return what had others, for people."""
    found = inside.execute(_GRANTED, [role]).fetchall()
    for row in found:
        what = sql.SQL("{} {}").format(sql.SQL(row["kind"]), sql.SQL(row["name"]))
        to = sql.Identifier(row["grantee"]) if row["grantee"] is not None else sql.SQL("PUBLIC")
        if row["is_default"]:
            statement = sql.SQL("GRANT {} ON {} TO {}").format(sql.SQL(row["privilege"]), what, to)
        else:
            statement = sql.SQL("REVOKE ALL ON {} FROM {} CASCADE").format(what, to)
        inside.execute(statement)
    return sorted({f"{row['kind'].lower()} {row['name']}" for row in found})


def _shut_definers(inside: Connection, role: str) -> list[str]:
    found = inside.execute(_DEFINERS, [role]).fetchall()
    for row in found:
        what = sql.SQL("{} {}").format(sql.SQL(row["kind"]), sql.SQL(row["name"]))
        inside.execute(sql.SQL("REVOKE ALL ON {} FROM PUBLIC").format(what))
    return sorted({str(row["name"]) for row in found})


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def set_limits(connection: Connection, sandbox: Sandbox, temp_bytes: int) -> None:
    """Limit the files that a statement of the role may write for sorting, where we may: only a superuser can."""
    statement = sql.SQL("ALTER ROLE {} SET temp_file_limit = {}")
    try:
        connection.execute(statement.format(sql.Identifier(sandbox.role), sql.Literal(temp_bytes // 1024)))
    except psycopg.errors.InsufficientPrivilege:
        return
    except psycopg.Error as error:
        raise RestoreError(f"The sandbox role could not be limited: {one_line(error)}") from error
