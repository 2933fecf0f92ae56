"""Find objects that not every role may create: read them at the backup, and judge them where it is to be restored.

Both sides read catalogues only. Checked against the privilege checks of PostgreSQL 16 and 18 (src/backend/commands).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, LiteralString

from psycopg import sql

from .names import as_dumped
from .postgres import Connection

NAMES_KEPT = 2000
NAMES_SHOWN = 5
SCHEMAS_PUBLISHED_SINCE = 150000
PARAMETERS_GRANTED_SINCE = 150000
DISPENSABLE = frozenset({"event trigger", "publication"})
"""Kinds of objects on which no table, function or row can depend: without them, a restore's data is still complete."""

_OWN: LiteralString = """
  x.objid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d
    WHERE d.classid = x.classid AND d.objid = x.objid AND d.deptype IN ('e', 'i'))
"""
# A cast between types that belong to PostgreSQL or to an extension, and so to a superuser, needs one, whatever its method.
_SPECIAL: LiteralString = """
WITH foreign_type AS (
    SELECT t.oid FROM pg_type t WHERE t.oid < 16384 OR EXISTS (SELECT FROM pg_depend d
        WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e')
), special(classid, objid, parameter) AS (
    SELECT 'pg_event_trigger'::regclass::oid, oid, NULL::text FROM pg_event_trigger
    UNION ALL SELECT 'pg_publication'::regclass, p.oid, NULL FROM pg_publication p WHERE p.puballtables OR {schemas}
    UNION ALL SELECT 'pg_cast'::regclass, oid, NULL FROM pg_cast WHERE castmethod = 'b'
        OR (castsource IN (SELECT oid FROM foreign_type) AND casttarget IN (SELECT oid FROM foreign_type))
    UNION ALL SELECT 'pg_opclass'::regclass, oid, NULL FROM pg_opclass
    UNION ALL SELECT 'pg_opfamily'::regclass, oid, NULL FROM pg_opfamily
    UNION ALL SELECT 'pg_type'::regclass, t.oid, NULL FROM pg_type t
        WHERE (t.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)) OR NOT t.typisdefined
           OR EXISTS (SELECT FROM pg_range r WHERE r.rngtypid = t.oid AND r.rngcanonical <> 0)
    UNION ALL SELECT 'pg_proc'::regclass, p.oid, NULL FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
        WHERE (NOT l.lanpltrusted AND p.prokind <> 'a') OR p.proleakproof OR p.prosupport <> 0
    UNION ALL SELECT 'pg_proc'::regclass, aggfnoid, NULL FROM pg_aggregate
        WHERE aggtranstype = 'internal'::regtype OR aggmtranstype = 'internal'::regtype
    UNION ALL SELECT 'pg_proc'::regclass, p.oid, s.name FROM pg_proc p
        CROSS JOIN unnest(p.proconfig) AS c JOIN pg_settings s ON s.name = split_part(c, '=', 1)
        WHERE s.context NOT IN ('user', 'backend')
    UNION ALL SELECT 'pg_language'::regclass, oid, NULL FROM pg_language
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, NULL FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'pg_ts_template'::regclass, oid, NULL FROM pg_ts_template
    UNION ALL SELECT 'pg_ts_parser'::regclass, oid, NULL FROM pg_ts_parser
    UNION ALL SELECT 'pg_am'::regclass, oid, NULL FROM pg_am
    UNION ALL SELECT 'pg_transform'::regclass, oid, NULL FROM pg_transform
)
SELECT i.type AS kind, convert_to(i.identity, 'UTF8') AS name, min(x.parameter) AS parameter, count(*) OVER () AS total
FROM special x CROSS JOIN LATERAL pg_identify_object(x.classid, x.objid, 0) i
WHERE i.identity IS NOT NULL AND {own} GROUP BY 1, 2 ORDER BY 1, 2 LIMIT {limit}
"""
_OWNED: LiteralString = """
owned(classid, objid, owner) AS (
    SELECT 'pg_class'::regclass::oid, oid, relowner FROM pg_class
        WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND relpersistence <> 't'
    UNION ALL SELECT 'pg_proc'::regclass, oid, proowner FROM pg_proc
    UNION ALL SELECT 'pg_type'::regclass, t.oid, t.typowner FROM pg_type t
        WHERE NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)
          AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind <> 'c')
    UNION ALL SELECT 'pg_operator'::regclass, oid, oprowner FROM pg_operator
    UNION ALL SELECT 'pg_opclass'::regclass, oid, opcowner FROM pg_opclass
    UNION ALL SELECT 'pg_opfamily'::regclass, oid, opfowner FROM pg_opfamily
    UNION ALL SELECT 'pg_collation'::regclass, oid, collowner FROM pg_collation
    UNION ALL SELECT 'pg_conversion'::regclass, oid, conowner FROM pg_conversion
    UNION ALL SELECT 'pg_ts_dict'::regclass, oid, dictowner FROM pg_ts_dict
    UNION ALL SELECT 'pg_ts_config'::regclass, oid, cfgowner FROM pg_ts_config
    UNION ALL SELECT 'pg_statistic_ext'::regclass, oid, stxowner FROM pg_statistic_ext
    UNION ALL SELECT 'pg_publication'::regclass, oid, pubowner FROM pg_publication
    UNION ALL SELECT 'pg_event_trigger'::regclass, oid, evtowner FROM pg_event_trigger
    UNION ALL SELECT 'pg_language'::regclass, oid, lanowner FROM pg_language
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid, fdwowner FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid, srvowner FROM pg_foreign_server
    UNION ALL SELECT 'pg_namespace'::regclass, oid, nspowner FROM pg_namespace
        WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
)
"""
_OWNERS: LiteralString = """
WITH {owned}
SELECT DISTINCT pg_get_userbyid(x.owner) AS name FROM owned x WHERE {own}
UNION SELECT DISTINCT pg_get_userbyid(lomowner) FROM pg_largeobject_metadata ORDER BY 1
"""
_EXTENSION_TABLES: LiteralString = """
SELECT e.extname AS extension, convert_to(n.nspname, getdatabaseencoding()) AS schema,
       convert_to(c.relname, getdatabaseencoding()) AS name
FROM pg_extension e JOIN pg_class c ON c.oid = ANY (e.extconfig) JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') ORDER BY 1, 2, 3
"""
_POLICY_ROLES: LiteralString = """
SELECT DISTINCT pg_get_userbyid(role) AS name FROM pg_policy CROSS JOIN unnest(polroles) AS role WHERE role <> 0 ORDER BY 1
"""
_SERVERS: LiteralString = """
SELECT convert_to(i.identity, 'UTF8') AS name, w.fdwname AS wrapper
FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw
     CROSS JOIN LATERAL pg_identify_object('pg_foreign_server'::regclass, s.oid, 0) i ORDER BY 1
"""
_LABELS: LiteralString = "SELECT DISTINCT provider AS name FROM pg_seclabels ORDER BY 1"
_RELATIONS: LiteralString = """
SELECT count(*) AS relations FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= 16384 AND c.relpersistence <> 't'
"""


def read_needs(connection: Connection) -> dict[str, Any]:
    """Read from the source database what restoring it needs beyond its owner's rights.

    JSON-ready; `objects` are those that only a superuser may create, by kind and name as pg_identify_object has them.
    """
    schemas = "EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid)"
    published = sql.SQL(schemas if connection.info.server_version >= SCHEMAS_PUBLISHED_SINCE else "false")
    special = sql.SQL(_SPECIAL).format(schemas=published, own=sql.SQL(_OWN), limit=NAMES_KEPT)
    objects, total = [], 0
    for row in connection.execute(special):
        total = row["total"]
        parameter = {"parameter": row["parameter"]} if row["parameter"] is not None else {}
        objects.append({"kind": row["kind"], "name": _text(row["name"]), **parameter})
    owners = connection.execute(sql.SQL(_OWNERS).format(owned=sql.SQL(_OWNED), own=sql.SQL(_OWN)))
    relations = connection.execute(_RELATIONS).fetchone()
    return {
        "objects": objects,
        "objects_not_named": total - len(objects),
        "owners": [row["name"] for row in owners],
        "extension_tables": [
            {"extension": row["extension"], "schema": as_dumped(row["schema"]), "name": as_dumped(row["name"])}
            for row in connection.execute(_EXTENSION_TABLES)
        ],
        "policy_roles": [row["name"] for row in connection.execute(_POLICY_ROLES)],
        "servers": [{"name": _text(row["name"]), "wrapper": row["wrapper"]} for row in connection.execute(_SERVERS)],
        "label_providers": [row["name"] for row in connection.execute(_LABELS)],
        "relations": relations["relations"] if relations else 0,
    }


@dataclass
class Verdict:
    """What a connection's role can't restore. Objects are named with their kinds.

    `refused` objects make a restore impossible. `staying` ones are in the live database and stay there if the restore runs
    inside it. `dispensable` ones are left out; inside the live database only those in `missing`. The role can't become
    the `owners`, and may not act as `strangers` although it can become them. It may not put anything into `tablespaces`, nor
    rows into `tables`, nor set the database's `parameters`; `policy_roles` do not exist.
    """

    refused: list[str] = field(default_factory=list)
    staying: list[str] = field(default_factory=list)
    dispensable: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    tablespaces: list[str] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    owns_database: bool = False
    policy_roles: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)


# The existing objects of kinds that may need a superuser; optionally only those that DROP OWNED BY … CASCADE would keep.
_PRESENT: LiteralString = """
WITH RECURSIVE {owned}, dropped(classid, objid) AS (
    SELECT classid, objid FROM owned WHERE owner = current_user::regrole AND objid >= 16384
    UNION
    SELECT d.classid, d.objid FROM dropped x JOIN pg_depend d ON d.refclassid = x.classid AND d.refobjid = x.objid
    WHERE d.deptype IN ('n', 'a', 'i', 'P', 'S')
), candidate(classid, objid) AS (
    SELECT 'pg_event_trigger'::regclass::oid, oid FROM pg_event_trigger
    UNION ALL SELECT 'pg_publication'::regclass, oid FROM pg_publication
    UNION ALL SELECT 'pg_cast'::regclass, oid FROM pg_cast
    UNION ALL SELECT 'pg_opclass'::regclass, oid FROM pg_opclass
    UNION ALL SELECT 'pg_opfamily'::regclass, oid FROM pg_opfamily
    UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type
    UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc
    UNION ALL SELECT 'pg_language'::regclass, oid FROM pg_language
    UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper
    UNION ALL SELECT 'pg_foreign_server'::regclass, oid FROM pg_foreign_server
    UNION ALL SELECT 'pg_ts_template'::regclass, oid FROM pg_ts_template
    UNION ALL SELECT 'pg_ts_parser'::regclass, oid FROM pg_ts_parser
    UNION ALL SELECT 'pg_am'::regclass, oid FROM pg_am
    UNION ALL SELECT 'pg_transform'::regclass, oid FROM pg_transform
)
SELECT i.type AS kind, convert_to(i.identity, 'UTF8') AS name
FROM candidate x CROSS JOIN LATERAL pg_identify_object(x.classid, x.objid, 0) i
WHERE x.objid >= 16384 AND i.identity IS NOT NULL
  AND ({all} OR (x.classid, x.objid) NOT IN (SELECT classid, objid FROM dropped))
"""
# Schemas may exist already; other objects that another role owns conflict with the backup's of the same name.
_IN_THE_WAY: LiteralString = """
WITH {owned}
SELECT i.type AS kind, convert_to(i.identity, 'UTF8') AS name, pg_get_userbyid(x.owner) AS owner,
       x.classid = 'pg_class'::regclass AS is_relation
FROM owned x CROSS JOIN LATERAL pg_identify_object(x.classid, x.objid, 0) i
WHERE x.owner <> current_user::regrole AND x.classid <> 'pg_namespace'::regclass AND i.identity IS NOT NULL AND {own}
"""
_ROLE: LiteralString = """
SELECT r.rolname AS role, r.rolsuper, pg_get_userbyid(d.datdba) AS owner, pg_has_role(d.datdba, 'USAGE') AS owns
FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()
"""
_MAY_NOT: LiteralString = """
SELECT rolname AS name FROM pg_roles WHERE rolname = ANY(%s) AND NOT pg_has_role(current_user, oid, %s)
"""
_MAY_NOT_PUT: LiteralString = """
SELECT spcname AS name FROM pg_tablespace
WHERE spcname = ANY(%s) AND NOT has_tablespace_privilege(%s::name, oid, 'CREATE')
"""
_MAY_NOT_USE: LiteralString = """
SELECT fdwname AS name FROM pg_foreign_data_wrapper
WHERE fdwname = ANY(%s) AND NOT has_foreign_data_wrapper_privilege(oid, 'USAGE')
"""
_SUPERUSERS_EXTENSIONS: LiteralString = """
SELECT DISTINCT name FROM pg_available_extension_versions WHERE name = ANY(%s) AND superuser
"""
_GUARDED: LiteralString = """
SELECT name FROM pg_settings WHERE name = ANY(%s) AND context NOT IN ('user', 'backend')
"""
_KNOWN_ROLES: LiteralString = "SELECT rolname AS name FROM pg_roles WHERE rolname = ANY(%s)"


def judge(connection: Connection, facts: Mapping[str, Any], rows: Mapping[tuple[str, str], int] | None = None) -> Verdict:
    """Judge which parts of a backup the role of this connection to the live database could not restore. `rows`: by (schema,
    table)."""
    needs, verdict = _needs_of(facts), Verdict()
    live = connection.execute(_ROLE).fetchone()
    assert live is not None
    verdict.owns_database = bool(live["owns"])
    # With a superuser, rows are loaded and tables created with the rights of the database's owner.
    maker = str(live["owner"] if live["rolsuper"] else live["role"])
    spaces = list(facts.get("tablespaces") or ())
    verdict.tablespaces = _found(connection, _MAY_NOT_PUT, [spaces, maker])
    policy_roles = list(needs.get("policy_roles") or ())
    known = set(_found(connection, _KNOWN_ROLES, [policy_roles]))
    verdict.policy_roles = [name for name in policy_roles if name not in known]
    if live["rolsuper"]:
        return verdict
    owners, set_role = list(needs.get("owners") or ()), "SET" if connection.info.server_version >= 160000 else "MEMBER"
    verdict.owners = _found(connection, _MAY_NOT, [owners, set_role])
    names = [str(text).partition("=")[0] for entry in facts.get("settings") or () for text in entry["settings"]]
    verdict.parameters = [name for name in _found(connection, _GUARDED, [names]) if not _may_set(connection, name)]
    strangers = _found(connection, _MAY_NOT, [owners, "USAGE"])
    verdict.strangers = [name for name in strangers if name not in verdict.owners]
    tables = [
        table for table in needs.get("extension_tables") or () if rows is None or rows.get((table["schema"], table["name"]))
    ]
    refused = set(_found(connection, _SUPERUSERS_EXTENSIONS, [[table["extension"] for table in tables]]))
    verdict.tables = [
        f"{table['schema']}.{table['name']} of the extension {table['extension']}"
        for table in tables
        if table["extension"] in refused
    ]
    objects = [(str(found["kind"]), str(found["name"])) for found in _beyond(connection, needs)]
    servers = {str(server["name"]): str(server["wrapper"]) for server in needs.get("servers") or ()}
    closed = set(_found(connection, _MAY_NOT_USE, [list(servers.values())]))
    objects += [("server", name) for name, wrapper in servers.items() if wrapper in closed]
    staying = present_objects(connection, staying_only=True) if objects else set()
    for kind, name in objects:
        text = f"{kind} {name}"
        if kind in DISPENSABLE:
            verdict.dispensable.append(text)
            if (kind, name) not in staying:
                verdict.missing.append(text)
        else:
            (verdict.staying if (kind, name) in staying else verdict.refused).append(text)
    if more := int(needs.get("objects_not_named") or 0):
        verdict.refused.append(f"{more} objects that the backup does not name")
    return verdict


def unrestorable(connection: Connection, facts: Mapping[str, Any]) -> list[str]:
    """Return a backup's warnings about what its role could not restore, while that can still be changed."""
    found, role = judge(connection, facts), connection.info.user
    ready = "Have a superuser's name and password ready for the restore"
    texts = []
    if beyond := found.refused + found.staying:
        where = "this database" if found.refused else "it beside the live database or on another server"
        texts.append(f"Only a superuser can restore {some(beyond)}: the role {role} can not restore {where}. {ready}.")
    if found.dispensable:
        texts.append(
            f"Only a superuser can restore {some(found.dispensable)}: a restore by the role {role} leaves it out. {ready}, "
            "or a script that creates it again."
        )
    if found.tables:
        texts.append(
            f"Only a superuser can restore the rows of {some(found.tables)}: the role {role} can not restore this database. "
            f"{ready}."
        )
    for space in found.tablespaces:
        texts.append(
            f"A restore can not put anything into the tablespace {space}: GRANT CREATE ON TABLESPACE {space} to the owner "
            "of this database."
        )
    if found.owns_database:
        texts += _lost_owners(found, role)
    return texts


def _lost_owners(found: Verdict, role: str) -> list[str]:
    texts = []
    if found.strangers:
        texts.append(
            f"The role {role} can not restore what {some(found.strangers)} own: GRANT that role TO {role} WITH INHERIT TRUE."
        )
    if found.owners:
        texts.append(
            f"What {some(found.owners)} own will belong to {role} after a restore by {role}: GRANT that role TO {role} to "
            "keep its owner."
        )
    if found.parameters:
        texts.append(f"A restore by {role} leaves out settings that only a superuser may set: {some(found.parameters)}.")
    return texts


def _beyond(connection: Connection, needs: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """Yield the objects that the connection's role may not create."""
    for found in needs.get("objects") or ():
        if not ("parameter" in found and _may_set(connection, found["parameter"])):
            yield found


def _may_set(connection: Connection, parameter: str) -> bool:
    """Return whether a role that is not a superuser was granted a superuser's parameter."""
    if connection.info.server_version < PARAMETERS_GRANTED_SINCE:
        return False
    row = connection.execute("SELECT has_parameter_privilege(%s, 'SET') AS may", [parameter]).fetchone()
    return row is not None and bool(row["may"])


def _needs_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the needs in a backup's facts; nothing if its manifest is old, or not one that we wrote."""
    needs = facts.get("needs")
    if not isinstance(needs, dict) or not isinstance(needs.get("objects_not_named"), int):
        return {}
    names = ("owners", "policy_roles", "label_providers")
    entries: dict[str, tuple[str, ...]] = {"objects": ("kind", "name"), "servers": ("name", "wrapper")}
    entries["extension_tables"] = ("extension", "schema", "name")
    fit = all(isinstance(needs.get(key), list) for key in (*names, *entries))
    fit = fit and all(isinstance(name, str) for key in names for name in needs[key])
    fit = fit and all(
        isinstance(entry, dict) and all(isinstance(entry.get(part), str) for part in parts)
        for key, parts in entries.items()
        for entry in needs[key]
    )
    return needs if fit else {}


def present_objects(connection: Connection, staying_only: bool) -> set[tuple[str, str]]:
    """Return kinds and names of existing objects of kinds that may need a superuser; optionally only of those that DROP
    OWNED BY the connection's role would keep."""
    query = sql.SQL(_PRESENT).format(owned=sql.SQL(_OWNED), all=sql.Literal(not staying_only))
    return {(row["kind"], _text(row["name"])) for row in connection.execute(query)}


def special_objects(facts: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return kinds and names of a backup's objects that only a superuser may create, except dispensable ones."""
    needs = _needs_of(facts)
    found = {(str(entry["kind"]), str(entry["name"])) for entry in needs.get("objects") or ()}
    found |= {("server", str(server["name"])) for server in needs.get("servers") or ()}
    return {(kind, name) for kind, name in found if kind not in DISPENSABLE}


def relations(facts: Mapping[str, Any]) -> int | None:
    """Return the number of tables, indexes, sequences and views in a backup, if it is recorded."""
    found = _needs_of(facts).get("relations")
    return found if isinstance(found, int) else None


def label_providers(facts: Mapping[str, Any]) -> list[str]:
    """Return the providers of a backup's security labels."""
    return list(_needs_of(facts).get("label_providers") or ())


def objects_in_the_way(connection: Connection, facts: Mapping[str, Any]) -> list[str]:
    """Return the objects, as kind, name and owner, that a restore inside the live database could not replace because other
    roles own them. Those that only a superuser may create stay, and do not count."""
    needs = _needs_of(facts)
    special = special_objects(facts) | {(str(found["kind"]), str(found["name"])) for found in needs.get("objects") or ()}
    owners = set(needs.get("owners") or ())
    query = sql.SQL(_IN_THE_WAY).format(owned=sql.SQL(_OWNED), own=sql.SQL(_OWN))
    found = []
    for row in connection.execute(query):
        name = _text(row["name"])
        # Objects that the backup lacks, or has from another owner, are no obstacle; but all tables are replaced.
        may_clash = row["is_relation"] or row["owner"] in owners
        if may_clash and (row["kind"], name) not in special:
            found.append(f"{row['kind']} {name} of {row['owner']}")
    return sorted(found)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _found(connection: Connection, query: LiteralString, parameters: list[Any]) -> list[str]:
    return [str(row["name"]) for row in connection.execute(query, parameters)]


def some(names: list[str]) -> str:
    """Join the first few names, and count the rest."""
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
