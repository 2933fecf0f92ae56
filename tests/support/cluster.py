"""All that a server knows beside the rows of its databases: what a hostile archive must not have changed."""

from __future__ import annotations

import psycopg

from app.demo.servers import EmbeddedPostgres
from tests.support.databases import admin_connection

Facts = dict[str, list[str]]
"""Rows as JSON text, sorted, by what they are about."""

_SHARED = {
    # With password hashes; PostgreSQL counts nothing in this table.
    "roles": "SELECT * FROM pg_authid",
    "memberships": "SELECT * FROM pg_auth_members",
    "settings of roles and databases": "SELECT * FROM pg_db_role_setting",
    "databases": "SELECT oid, datname, datdba, encoding, datallowconn, datconnlimit, dattablespace, datcollate, datctype,"
    " datistemplate, datacl FROM pg_database",
    "tablespaces": "SELECT * FROM pg_tablespace",
    "grants on settings": "SELECT * FROM pg_parameter_acl",
    "comments on shared objects": "SELECT * FROM pg_shdescription",
    "security labels of shared objects": "SELECT * FROM pg_shseclabel",
    "subscriptions": "SELECT subname, subdbid, subowner FROM pg_subscription",
    "replication origins": "SELECT * FROM pg_replication_origin",
    "replication slots": "SELECT slot_name, database, plugin FROM pg_replication_slots",
    "prepared transactions": "SELECT gid, owner, database FROM pg_prepared_xacts",
    "settings of the server": "SELECT name, setting FROM pg_settings WHERE context <> 'internal'"
    " AND source IN ('default', 'configuration file', 'command line')",
    "configuration files": "SELECT * FROM pg_file_settings",
    # Those of the tests' own pools come and go; a session of nobody or of a role that is gone would be one too many.
    "sessions of temporary roles": "SELECT usename, datname FROM pg_stat_activity a WHERE backend_type = 'client backend'"
    " AND (usename LIKE 'restore\\_sandbox\\_%' OR NOT EXISTS (SELECT FROM pg_authid r WHERE r.oid = a.usesysid))",
    "advisory locks": "SELECT database, classid, objid, mode FROM pg_locks WHERE locktype = 'advisory'",
}
_OBJECTS = {
    "pg_namespace": "nspname, nspowner, nspacl",
    "pg_class": "relnamespace, relname, relkind, relowner, relacl, relrowsecurity, relforcerowsecurity",
    "pg_attribute": "attrelid, attnum, attname, attacl",
    "pg_proc": "pronamespace, proname, proowner, prosecdef, prosrc, proconfig, proacl",
    "pg_type": "typnamespace, typname, typowner, typacl",
    "pg_language": "lanname, lanowner, lanacl",
    "pg_foreign_data_wrapper": "fdwname, fdwowner, fdwacl",
    "pg_foreign_server": "srvname, srvowner, srvacl",
    "pg_largeobject_metadata": "oid, lomowner, lomacl",
    "pg_default_acl": "*",
    "pg_trigger": "tgrelid, tgname, tgfoid, tgenabled",
    "pg_rewrite": "ev_class, rulename, ev_enabled",
    "pg_policy": "polrelid, polname",
    "pg_event_trigger": "*",
    "pg_extension": "*",
    "pg_publication": "*",
}


def cluster_facts(server: EmbeddedPostgres, without: tuple[str, ...] = ()) -> Facts:
    """Return everything a server knows of roles, settings, shared objects, and of the objects, owners and grants in each
    database that allows connections. `without` names databases whose objects may change (those of the test itself)."""
    facts: Facts = {}
    with admin_connection(server) as connection:
        for what, query in _SHARED.items():
            facts[what] = _rows(connection, query)
        names = connection.execute("SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1").fetchall()
    for (name,) in names:
        if name in without:
            continue
        with admin_connection(server, name) as inside:
            for catalogue, columns in _OBJECTS.items():
                query = f"SELECT {columns} FROM pg_catalog.{catalogue}"
                if catalogue == "pg_attribute":  # those of the server's own catalogues are many and can't change
                    query += " WHERE attacl IS NOT NULL OR attrelid >= 16384"
                facts[f"{catalogue} in {name}"] = _rows(inside, query)
    return facts


def _rows(connection: psycopg.Connection, query: str) -> list[str]:
    rows = connection.execute(f"SELECT row_to_json(q)::text FROM ({query}) q ORDER BY 1".encode()).fetchall()
    return [str(text) for (text,) in rows]


def changes(before: Facts, after: Facts) -> dict[str, tuple[list[str], list[str]]]:
    """Return what differs, by what it is about: (rows that are gone, rows that are new). Empty if nothing does."""
    found = {}
    for what in before.keys() | after.keys():
        old, new = set(before.get(what, [])), set(after.get(what, []))
        if old != new:
            found[what] = (sorted(old - new), sorted(new - old))
    return found
