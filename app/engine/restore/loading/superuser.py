"""Statements of an archive of ours that only a superuser may execute, and how they are executed safely as one."""

from __future__ import annotations

import re
from typing import LiteralString

from ...source.postgres import Connection

NEEDS_SUPERUSER = re.compile(
    rb"CREATE (?:OR REPLACE )?(?:EXTENSION|EVENT TRIGGER|PUBLICATION|SUBSCRIPTION|SERVER|FOREIGN DATA WRAPPER|USER MAPPING"
    rb"|ACCESS METHOD|(?:TRUSTED )?(?:PROCEDURAL )?LANGUAGE|TRANSFORM|CAST|OPERATOR (?:CLASS|FAMILY)|TYPE|TEXT SEARCH)\b"
    rb"|CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE|AGGREGATE)\b"
    rb"|ALTER (?:EXTENSION|EVENT TRIGGER|PUBLICATION|SUBSCRIPTION|SERVER|OPERATOR FAMILY|DEFAULT PRIVILEGES|TYPE)\b"
    rb"|(?:GRANT|REVOKE|COMMENT ON|SECURITY LABEL)\b",
    re.DOTALL,
)
"""What may be repeated as the superuser where the temporary role was refused: it runs no code that the archive brings."""

ROUTINE = re.compile(rb"CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE|AGGREGATE)\b")
_NEW_ROUTINES: LiteralString = """
SELECT pg_catalog.convert_to(format('ALTER ROUTINE %%s OWNER TO %%I', p.oid::pg_catalog.regprocedure, %s::text),
                             pg_catalog.pg_client_encoding()) AS statement
FROM pg_catalog.pg_proc p
WHERE p.xmin = pg_catalog.pg_current_xact_id()::xid AND pg_catalog.pg_get_userbyid(p.proowner) <> %s
"""


def create_routine_for(superuser: Connection, statement: bytes, role: str) -> None:
    """Create a function as the superuser and give it to the temporary role in the same transaction: what the load calls of
    it, as a SECURITY DEFINER function in an index, must not run with a superuser's rights. Raise psycopg.Error."""
    with superuser.transaction():
        superuser.execute(statement, prepare=False)
        for row in superuser.execute(_NEW_ROUTINES, [role, role]).fetchall():
            superuser.execute(row["statement"], prepare=False)
