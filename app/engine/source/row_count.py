"""Count a table's rows without running its owner's code with our rights."""

from __future__ import annotations

from typing import LiteralString

from .names import quoted
from .postgres import Connection

# To plan any query of a table, the server evaluates functions of constants in its indexes' expressions and predicates and in
# its extended statistics, with the rights of whoever asks (RelationGetIndexPredicate, get_relation_statistics).
_PLANNING_RUNS_CODE: LiteralString = """
SELECT c.relowner <> (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = current_user) AND (
    EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))
    OR EXISTS (SELECT FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = c.oid AND s.stxexprs IS NOT NULL)) AS found,
    (SELECT pg_catalog.convert_to(a.attname, pg_catalog.pg_client_encoding()) FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
     ORDER BY a.attlen <= 0, a.attlen LIMIT 1) AS narrow
FROM pg_catalog.pg_class c
WHERE c.oid = pg_catalog.to_regclass(pg_catalog.convert_from(%s, pg_catalog.pg_client_encoding()))
"""


def count_rows(connection: Connection, schema: str, table: str) -> int:
    """Count a table's own rows, without those of tables that inherit from it.

    The session must be one of `connect`, with client_encoding as the names are. Raise psycopg.Error.
    """
    name = quoted(schema, table)
    row = connection.execute(_PLANNING_RUNS_CODE, [name], binary=True).fetchone()
    if row is None or not row["found"]:
        counted = connection.execute(b"SELECT count(*) AS rows FROM ONLY " + name).fetchone()
        return int(counted["rows"]) if counted else 0
    # COPY of a table involves no planning.
    column = b' ("' + row["narrow"].replace(b'"', b'""') + b'")' if row["narrow"] is not None else b""
    with connection.cursor() as cursor, cursor.copy(b"COPY " + name + column + b" TO STDOUT") as copy:
        return sum(1 for _ in copy)
