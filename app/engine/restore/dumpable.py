"""Checks that a staged database can be backed up, before it goes live rather than the day after."""

from __future__ import annotations

from typing import LiteralString
from uuid import UUID

import psycopg

from ..backup import dump
from ..errors import DumpError, RestoreError, SourceError, StalledError, Subject
from ..progress import Meter
from ..source.clients import find_client
from ..source.documents import shown
from ..source.postgres import Connection, connect, one_line, snapshot
from ..source.preflight import Source
from .places.staging_database import with_database

NAMED = 5
# pg_dump reads with row_security = off: a policy that would apply to our role is an error then.
_UNREADABLE: LiteralString = """
SELECT n.nspname AS schema, c.relname AS name, c.relforcerowsecurity AS forced, pg_get_userbyid(c.relowner) AS owner
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND c.oid >= 16384 AND row_security_active(c.oid)
ORDER BY 1, 2
"""
_NOT_GRANTED: LiteralString = """
SELECT n.nspname AS schema, c.relname AS name, pg_get_userbyid(c.relowner) AS owner
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= 16384 AND c.relpersistence <> 't'
  AND CASE WHEN c.relkind IN ('r', 'p') THEN NOT has_table_privilege(c.oid, 'SELECT')
           WHEN c.relkind = 'S' THEN NOT has_sequence_privilege(c.oid, 'SELECT') ELSE false END
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""


def check_readable(connection: Connection) -> None:
    """Raise RestoreError, with what to do, if there are rows in this database that a backup by our role could not read."""
    row = connection.execute("SELECT current_user AS role").fetchone()
    role = row["role"] if row else ""
    hidden = connection.execute(_UNREADABLE).fetchall()
    if hidden:
        raise RestoreError(
            f"No backup of the restored database would work: row level security hides rows of {_named(hidden)} from the "
            f"role {role} ({'FORCE' if hidden[0]['forced'] else 'ENABLE'} ROW LEVEL SECURITY). Nothing was changed. ALTER "
            f"ROLE {role} BYPASSRLS (a superuser can), or use a role in {Subject.SOURCE} that policies don't apply to; or "
            "dump the archive again after ALTER TABLE … NO FORCE ROW LEVEL SECURITY."
        )
    missing = connection.execute(_NOT_GRANTED).fetchall()
    if missing:
        raise RestoreError(
            f"No backup of the restored database would work: the role {role} may not read {_named(missing)}, which belongs "
            f"to {missing[0]['owner']}. Nothing was changed. GRANT pg_read_all_data TO {role}, or use the owner in "
            f"{Subject.SOURCE}."
        )


def check_dumpable(target: Source, name: str, run_id: UUID, meter: Meter, for_real: bool) -> list[str]:
    """Take a backup's snapshot of a staging database, all its locks with it; `for_real`, also have pg_dump write all of it.

    Return warnings. Raise RestoreError if a backup would not work for a reason that lies in the database.
    """
    url = with_database(target.database_url, name)
    try:
        with connect(url, f"restore {run_id}") as connection:
            check_readable(connection)
            with snapshot(connection, meter.alive) as found:
                if for_real:
                    client = find_client(connection.info.server_version // 10000, target.pg_bin_dir)
                    encoding = str(found.facts["encoding"])
                    with dump.started(dump.DumpOrder(client, url, found.id, run_id, encoding)) as child:
                        for chunk in dump.chunks(child, meter):
                            meter.add(len(chunk))
                        dump.check_end(child)
    except StalledError:
        raise
    except (DumpError, SourceError, psycopg.Error) as error:
        if "max_locks_per_transaction" in str(error):  # the server's setting, which can be changed afterwards
            return [f"No backup of the restored database works yet. {one_line(error)}"]
        raise RestoreError(
            f"No backup of the restored database would work, so it was not made live: {one_line(error)} Nothing was changed."
        ) from error
    return []


def _named(rows: list[dict[str, object]]) -> str:
    names = ", ".join(shown(f"{row['schema']}.{row['name']}") for row in rows[:NAMED])
    return names + (f" and {len(rows) - NAMED} more" if len(rows) > NAMED else "")
