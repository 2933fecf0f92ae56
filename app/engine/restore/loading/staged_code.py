"""What code a staging database really holds after an untrusted dump was loaded, by the server's own catalogue.

A dump's text can hide code from any reader: a block, or a function that a column's default calls, makes functions whose
names are nowhere in it. The catalogue hides nothing. Only catalogues are read here, by names that no search_path
changes, and nothing is called that the dump brought.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from ...errors import RestoreError
from ...source.documents import shown
from ...source.names import as_dumped, readable
from ...source.postgres import Connection, one_line
from .code_survey import CODE_KEPT, CodeKey, CodeSurvey

NAMED = 5
"""How many pieces of code an error names."""

_HARMLESS = [
    *("nextval", "currval", "lastval", "random", "random_normal", "setseed", "gen_random_uuid", "uuidv4", "uuidv7"),
    *("clock_timestamp", "timeofday", "current_query", "array_sample", "array_shuffle", "pg_is_in_recovery"),
    *("pg_relation_size", "pg_table_size", "pg_total_relation_size", "pg_indexes_size", "pg_database_size"),
    *("pg_tablespace_size", "pg_sequence_last_value"),
]
"""Volatile functions of PostgreSQL's own that change nothing outside their session and execute nothing."""

# What belongs to an extension is the server's own code, unless the dump's role owns it: that was put in by ALTER EXTENSION.
_CODE: LiteralString = """
WITH found AS (
    SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass AS classid, p.oid,
           CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END AS kind,
           p.pronamespace AS namespace, p.proname AS name, 0::pg_catalog.oid AS relation, p.proowner AS owner,
           p.prosecdef AS definer,
           CASE WHEN l.lanname IN ('internal', 'c') OR p.prokind = 'a' OR p.prosrc = '' THEN NULL ELSE p.prosrc END AS body
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE NOT EXISTS (  -- the constructors of range types
        SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
        AND d.deptype = 'i')
    UNION ALL
    SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass, t.oid, 'trigger', 0, t.tgname, t.tgrelid, c.relowner, false, NULL
    FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
    WHERE NOT t.tgisinternal AND t.tgparentid = 0
    UNION ALL
    SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.oid, 'rule', 0, r.rulename, r.ev_class, c.relowner, false, NULL
    FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
    WHERE NOT (r.ev_type = '1' AND c.relkind IN ('v', 'm'))
    UNION ALL
    SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid, 'policy', 0, p.polname, p.polrelid, c.relowner, false, NULL
    FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
    UNION ALL
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, c.oid,
           CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'foreign table' END,
           c.relnamespace, c.relname, 0, c.relowner, false, NULL
    FROM pg_catalog.pg_class c WHERE c.relkind IN ('v', 'm', 'f')
    UNION ALL
    SELECT 'pg_catalog.pg_event_trigger'::pg_catalog.regclass, oid, 'event trigger', 0, evtname, 0, evtowner, false, NULL
    FROM pg_catalog.pg_event_trigger
    UNION ALL
    SELECT 'pg_catalog.pg_operator'::pg_catalog.regclass, oid, 'operator', oprnamespace, oprname, 0, oprowner, false, NULL
    FROM pg_catalog.pg_operator WHERE oprcode <> 0  -- else only named as another's commutator
    UNION ALL
    SELECT 'pg_catalog.pg_opclass'::pg_catalog.regclass, oid, 'operator class', opcnamespace, opcname, 0, opcowner,
           false, NULL
    FROM pg_catalog.pg_opclass
    UNION ALL
    SELECT 'pg_catalog.pg_conversion'::pg_catalog.regclass, oid, 'conversion', connamespace, conname, 0, conowner,
           false, NULL
    FROM pg_catalog.pg_conversion
    UNION ALL
    SELECT 'pg_catalog.pg_extension'::pg_catalog.regclass, oid, 'extension', 0, extname, 0, extowner, false, NULL
    FROM pg_catalog.pg_extension
    UNION ALL
    SELECT 'pg_catalog.pg_publication'::pg_catalog.regclass, oid, 'publication', 0, pubname, 0, pubowner, false, NULL
    FROM pg_catalog.pg_publication
    UNION ALL
    SELECT 'pg_catalog.pg_foreign_server'::pg_catalog.regclass, oid, 'server', 0, srvname, 0, srvowner, false, NULL
    FROM pg_catalog.pg_foreign_server
    UNION ALL
    SELECT 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass, oid, 'foreign data wrapper', 0, fdwname, 0, fdwowner,
           false, NULL
    FROM pg_catalog.pg_foreign_data_wrapper
    UNION ALL
    SELECT 'pg_catalog.pg_language'::pg_catalog.regclass, oid, 'language', 0, lanname, 0, lanowner, false, NULL
    FROM pg_catalog.pg_language
    UNION ALL
    SELECT 'pg_catalog.pg_subscription'::pg_catalog.regclass, s.oid, 'subscription', 0, s.subname, 0, s.subowner, false, NULL
    FROM pg_catalog.pg_subscription s JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
    WHERE d.datname = pg_catalog.current_database()
)
SELECT f.kind, f.definer,
       pg_catalog.convert_to(COALESCE(n.nspname, ''), {encoding}) AS schema,
       pg_catalog.convert_to(f.name, {encoding}) AS name,
       pg_catalog.convert_to(COALESCE(tn.nspname, ''), {encoding}) AS table_schema,
       pg_catalog.convert_to(COALESCE(t.relname, ''), {encoding}) AS table_name,
       pg_catalog.convert_to(f.body, {encoding}) AS body
FROM found f LEFT JOIN pg_catalog.pg_namespace n ON n.oid = f.namespace
LEFT JOIN pg_catalog.pg_class t ON t.oid = f.relation LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace
WHERE f.oid >= 16384 AND (f.owner = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = {role}) OR NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d WHERE d.classid = f.classid AND d.objid = f.oid AND d.deptype = 'e'))
ORDER BY 1, 3, 4, 5, 6
"""
# Casts have no owner.
_CASTS: LiteralString = """
SELECT pg_catalog.convert_to(tn.nspname, {encoding}) AS schema, pg_catalog.convert_to(t.typname, {encoding}) AS name
FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_type t ON t.oid = c.castsource
JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
WHERE c.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_cast'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype IN ('e', 'i'))
"""
# Expressions of any kind, and what they belong to, that call a function of PostgreSQL's own which does something.
_DANGEROUS: LiteralString = """
WITH expression AS (
    SELECT adrelid AS relation, 0::pg_catalog.oid AS type, 0::pg_catalog.oid AS function, adbin::pg_catalog.text AS tree,
           'default of a column'::text AS what
    FROM pg_catalog.pg_attrdef
    UNION ALL SELECT conrelid, contypid, 0, conbin::pg_catalog.text, 'check' FROM pg_catalog.pg_constraint
    UNION ALL SELECT 0, oid, 0, typdefaultbin::pg_catalog.text, 'default of a domain' FROM pg_catalog.pg_type
    UNION ALL SELECT indrelid, 0, 0, indexprs::pg_catalog.text, 'index' FROM pg_catalog.pg_index
    UNION ALL SELECT indrelid, 0, 0, indpred::pg_catalog.text, 'index' FROM pg_catalog.pg_index
    UNION ALL SELECT stxrelid, 0, 0, stxexprs::pg_catalog.text, 'statistics' FROM pg_catalog.pg_statistic_ext
    UNION ALL SELECT partrelid, 0, 0, partexprs::pg_catalog.text, 'partition key' FROM pg_catalog.pg_partitioned_table
    UNION ALL SELECT polrelid, 0, 0, polqual::pg_catalog.text, 'policy' FROM pg_catalog.pg_policy
    UNION ALL SELECT polrelid, 0, 0, polwithcheck::pg_catalog.text, 'policy' FROM pg_catalog.pg_policy
    UNION ALL SELECT tgrelid, 0, 0, tgqual::pg_catalog.text, 'trigger' FROM pg_catalog.pg_trigger
    UNION ALL SELECT ev_class, 0, 0, ev_action::pg_catalog.text, 'view or rule' FROM pg_catalog.pg_rewrite WHERE oid >= 16384
    UNION ALL SELECT ev_class, 0, 0, ev_qual::pg_catalog.text, 'rule' FROM pg_catalog.pg_rewrite WHERE oid >= 16384
    UNION ALL SELECT 0, 0, oid, prosqlbody::pg_catalog.text, 'function' FROM pg_catalog.pg_proc WHERE oid >= 16384
    UNION ALL SELECT 0, 0, oid, proargdefaults::pg_catalog.text, 'function' FROM pg_catalog.pg_proc WHERE oid >= 16384
), called AS (
    SELECT DISTINCT e.relation, e.type, e.function, e.what, p.proname
    FROM expression e, pg_catalog.regexp_matches(e.tree, ':(?:funcid|opfuncid|aggfnoid|winfnoid) ([0-9]+)', 'g') AS m,
         pg_catalog.pg_proc p
    WHERE p.oid = (m[1])::pg_catalog.oid AND p.oid < 16384 AND p.provolatile = 'v' AND p.proname <> ALL ({harmless}::text[])
)
SELECT DISTINCT called.what, called.proname::text AS calls,
       pg_catalog.convert_to(COALESCE(cn.nspname, tn.nspname, pn.nspname), {encoding}) AS schema,
       pg_catalog.convert_to(COALESCE(c.relname, t.typname, p.proname), {encoding}) AS name
FROM called LEFT JOIN pg_catalog.pg_class c ON c.oid = called.relation
LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_type t ON t.oid = called.type LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_proc p ON p.oid = called.function LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
ORDER BY 3, 4, 1, 2
"""


@dataclass(frozen=True)
class StagedCode:
    """Code in a staging database: `lines` for people, CODE_KEPT and one more at most; `hidden`: not named by its text."""

    lines: list[str]
    hidden: list[str]


def staged_code(connection: Connection, role: str, encoding: str, survey: CodeSurvey) -> StagedCode:
    """Read the code that a role has loaded from a dump, whose client_encoding it was, and compare it with the dump's survey.

    The role's sessions must have ended. Raise RestoreError if the catalogue can't be read.
    """
    try:
        found = list(_read(connection, role, encoding, survey))
    except psycopg.Error as error:
        raise RestoreError(f"The code in the staging database could not be read: {one_line(error)}") from error
    lines = [line for line, _ in found]
    more = [f"… and {len(lines) - CODE_KEPT} more."] if len(lines) > CODE_KEPT else []
    return StagedCode(lines[:CODE_KEPT] + more, [line for line, is_hidden in found if is_hidden])


def _read(connection: Connection, role: str, encoding: str, survey: CodeSurvey) -> list[tuple[str, bool]]:
    values = {"encoding": sql.Literal(encoding), "role": sql.Literal(role), "harmless": sql.Literal(_HARMLESS)}
    found: list[tuple[str, bool]] = []

    def name_of(schema: bytes, name: bytes) -> str:
        return shown(".".join(readable(as_dumped(part), encoding) for part in (schema, name) if part))

    for row in connection.execute(sql.SQL(_CODE).format(**values), binary=True):
        key = CodeKey(
            row["kind"],
            as_dumped(row["schema"]),
            as_dumped(row["name"]),
            as_dumped(row["table_schema"]),
            as_dumped(row["table_name"]),
        )
        is_hidden = not survey.explains(key)
        line = f"{key.kind} {name_of(row['schema'], row['name'])}"
        if key.table:
            line += f" on {name_of(row['table_schema'], row['table_name'])}"
        if row["definer"]:
            line += ", with its owner's rights (SECURITY DEFINER)"
            is_hidden |= not survey.explains(CodeKey("security definer", key.schema, key.name))
        if row["body"] is not None and not survey.explains_body(row["body"]):
            is_hidden = True
        found.append((line, is_hidden))
    for row in connection.execute(sql.SQL(_CASTS).format(**values), binary=True):
        found.append((f"cast from {name_of(row['schema'], row['name'])}", not survey.explains_kind("cast")))
    for row in connection.execute(sql.SQL(_DANGEROUS).format(**values), binary=True):
        key = CodeKey("dangerous call", as_dumped(row["schema"]), as_dumped(row["name"]))
        line = f"{row['what']} of {name_of(row['schema'], row['name'])} that calls {row['calls']}"
        found.append((line, not survey.explains(key)))
    return found


def check_nothing_hidden(code: StagedCode) -> None:
    """Raise RestoreError, which names it, if there is code that the preview did not show."""
    if not code.hidden:
        return
    named = "; ".join(code.hidden[:NAMED])
    if len(code.hidden) > NAMED:
        named += f"; and {len(code.hidden) - NAMED} more"
    raise RestoreError(
        f"The archive made code that its text does not show, so the preview could not list it: {named}. Nothing was "
        "changed. Have whoever made this archive dump it again with pg_dump; trust it only if you know where it comes from."
    )
