"""Compare the locks that a server can hold with those needed to replace a whole database in one transaction.

Checked against PostgreSQL 16 and 18: NLOCKENTS and InitializeMaxBackends; DROP OWNED BY locks each object that it drops, and
creating a relation takes between one lock (a plain table) and two and a half (tables with keys, defaults and indexes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import LiteralString

from .postgres import Connection

LOCKS_OF_A_NEW_RELATION = 2.5
RELATIONS_OF_A_TABLE = 4
"""An estimate if a backup does not say how many relations it has: a table, its key, its TOAST table and that one's index."""

_CAPACITY: LiteralString = """
SELECT sum(setting::bigint) FILTER (WHERE name = 'max_locks_per_transaction') AS each,
       sum(setting::bigint) FILTER (WHERE name <> 'max_locks_per_transaction') AS backends
FROM pg_settings WHERE name IN ('max_locks_per_transaction', 'max_connections', 'max_prepared_transactions',
                                'max_worker_processes', 'max_wal_senders', 'autovacuum_max_workers')
"""
_DROPPED: LiteralString = """
WITH relation AS (SELECT oid FROM pg_class WHERE relowner = current_user::regrole),
     type AS (SELECT oid FROM pg_type WHERE typowner = current_user::regrole)
SELECT (SELECT count(*) FROM relation) + (SELECT count(*) FROM type)
     + (SELECT count(*) FROM pg_constraint WHERE conrelid IN (SELECT oid FROM relation)
              OR contypid IN (SELECT oid FROM type))
     + (SELECT count(*) FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM relation))
     + (SELECT count(*) FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM relation))
     + (SELECT count(*) FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM relation))
     + (SELECT count(*) FROM pg_policy WHERE polrelid IN (SELECT oid FROM relation))
     + (SELECT count(*) FROM pg_proc WHERE proowner = current_user::regrole) AS locks
"""


@dataclass(frozen=True)
class Capacity:
    """A server's lock capacity: `each` times the number of processes that it may have."""

    each: int
    backends: int

    @property
    def locks(self) -> int:
        return self.each * self.backends

    def setting_for(self, locks: int) -> int:
        """Return the max_locks_per_transaction needed for that many locks, with a margin for everybody else."""
        return math.ceil(locks * 1.2 / self.backends)


def capacity(connection: Connection) -> Capacity:
    """Return the server's lock capacity."""
    row = connection.execute(_CAPACITY).fetchone()
    assert row is not None
    return Capacity(int(row["each"]), int(row["backends"]))


def locks_to_replace(connection: Connection, relations: int) -> tuple[int, int]:
    """Return the fewest and the most locks needed to drop everything that the connection's role owns and create that many
    relations in one transaction."""
    row = connection.execute(_DROPPED).fetchone()
    assert row is not None
    dropped = int(row["locks"])
    return dropped + relations, dropped + math.ceil(relations * LOCKS_OF_A_NEW_RELATION)
