"""The source database: connections, facts, and a snapshot under which no table can change its definition."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from psycopg import conninfo, sql
from psycopg.rows import dict_row

from ..errors import DumpError, SourceError, Subject

Connection = psycopg.Connection[dict[str, Any]]
CANCEL_SECONDS = 5

CONNECT_SECONDS = 10
FREED_SECONDS = 1.0
"""How long a connection that was just closed may still count against a limit: its server process ends a moment later."""

LOCK_SECONDS = 60
LOCK_TRY_SECONDS = 2
"""How long one attempt at the locks lasts; between attempts the run is reported as alive."""

SNAPSHOT_ATTEMPTS = 5


@dataclass(frozen=True)
class SourceTable:
    """A table whose rows pg_dump writes; `size_bytes` is its main and TOAST storage on disk.

    `pattern` makes pg_dump select this table only: quoted, so that nothing is a wildcard, in the database's encoding.
    """

    oid: int
    schema: str
    name: str
    pattern: bytes
    size_bytes: int

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


@dataclass(frozen=True)
class Snapshot:
    """An exported snapshot; every table that it sees is locked against TRUNCATE, ALTER and DROP while it is held."""

    id: str
    tables: list[SourceTable]
    facts: dict[str, Any] = field(default_factory=dict)


def one_line(error: BaseException) -> str:
    """Return an error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def read_url(url: str) -> dict[str, Any]:
    """Parse a libpq URL. Raise SourceError, which shows nothing of the URL.

    libpq mistakes parts of a password that is not percent-encoded for a host, a port or a database, and names them in
    errors.
    """
    parameters: dict[str, Any] | None
    try:
        parameters = dict(conninfo.conninfo_to_dict(url))
    except psycopg.Error:
        parameters = None
    if parameters is not None:
        host, port, name = (str(parameters.get(key) or "") for key in ("host", "port", "dbname"))
        if "@" not in host and re.fullmatch("[0-9,]*", port) and ("@" not in name or "%40" in url):
            return parameters
    raise SourceError(
        Subject.SOURCE,
        "the URL can't be read; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with @ : / and % in the password "
        "percent-encoded (%40 %3A %2F %25)",
    )


def connect(url: str, application_name: str) -> Connection:
    """Open an autocommit connection to a libpq URL. Raise SourceError."""
    parameters = read_url(url)
    try:
        parameters.setdefault("connect_timeout", CONNECT_SECONDS)
        parameters["application_name"] = application_name
        connection = _connect(conninfo.make_conninfo("", **parameters))
        connection.execute("SET client_encoding = 'UTF8'; SET search_path = pg_catalog; SET DateStyle = ISO")
        connection.execute("SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        connection.execute("SET idle_session_timeout = 0")
        # Otherwise planning a query evaluates constants in a table's checks with our rights; "partition" is the default.
        connection.execute("SET constraint_exclusion = partition")
        if connection.info.server_version >= 170000:
            connection.execute("SET transaction_timeout = 0")
        # A role or a server may be read-only for the app, as is wise before a restore, but not for us.
        connection.execute("SET default_transaction_read_only = off")
        return connection
    except psycopg.Error as error:
        raise SourceError(Subject.SOURCE, f"the database can't be opened: {one_line(error)}") from error


def _connect(dsn: str) -> Connection:
    """Connect, and try again for a moment if the role, the database or the server has no connection left.

    A refused connection has no SQLSTATE (psycopg 3.3), so the message decides. In another language than English it isn't
    recognized, and the first refusal stands.
    """
    until = time.monotonic() + FREED_SECONDS
    while True:
        try:
            return psycopg.connect(dsn, autocommit=True, row_factory=dict_row)
        except psycopg.OperationalError as error:
            if not _LIMIT_REACHED.search(str(error)) or time.monotonic() > until:
                raise
        time.sleep(0.05)


_LIMIT_REACHED = re.compile("too many (connections for|clients)|connection slots are reserved")

_FACTS: LiteralString = """
SELECT current_setting('server_version') AS server_version, current_setting('server_version_num')::int AS server_version_num,
       current_setting('TimeZone') AS timezone, d.datname AS name, pg_get_userbyid(d.datdba) AS owner,
       (SELECT rolsuper FROM pg_roles WHERE oid = d.datdba) AS owner_is_superuser,
       pg_encoding_to_char(d.encoding) AS encoding,
       d.datcollate AS lc_collate, d.datctype AS lc_ctype, d.datlocprovider::text AS locale_provider,
       to_jsonb(d) ->> {locale} AS locale, d.datcollversion AS collation_version, d.datconnlimit AS connection_limit,
       d.datacl::text[] AS acl, shobj_description(d.oid, 'pg_database') AS comment,
       (SELECT spcname FROM pg_tablespace t WHERE t.oid = d.dattablespace) AS tablespace,
       ARRAY(SELECT spcname::text FROM pg_tablespace t WHERE t.oid IN (SELECT reltablespace FROM pg_class)
             AND spcname NOT LIKE 'pg\\_%' ORDER BY 1) AS tablespaces,
       pg_database_size(d.oid) AS size_bytes,
       CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text AS lsn
FROM pg_database d WHERE d.datname = current_database()
"""
_SETTINGS: LiteralString = """
SELECT CASE WHEN s.setrole = 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END AS role, s.setconfig AS settings
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database() ORDER BY 1
"""
_EXTENSIONS: LiteralString = """
SELECT e.extname AS name, e.extversion AS version, n.nspname AS schema
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace ORDER BY 1
"""
_ROLES: LiteralString = """
SELECT r.rolname AS name, r.rolsuper AS superuser, r.rolinherit AS inherit, r.rolcreaterole AS createrole,
       r.rolcreatedb AS createdb, r.rolcanlogin AS login, r.rolreplication AS replication,
       r.rolbypassrls AS bypassrls, r.rolconnlimit AS connection_limit,
       ARRAY(SELECT pg_get_userbyid(m.roleid)::text FROM pg_auth_members m WHERE m.member = r.oid ORDER BY 1) AS member_of
FROM pg_roles r
WHERE r.oid >= 16384 AND (
      r.oid = (SELECT datdba FROM pg_database WHERE datname = current_database())
   OR r.oid IN (SELECT s.refobjid FROM pg_shdepend s JOIN pg_database d ON d.datname = current_database()
                WHERE s.refclassid = 'pg_authid'::regclass
                  AND (s.dbid = d.oid OR (s.dbid = 0 AND s.classid = 'pg_database'::regclass AND s.objid = d.oid))))
ORDER BY 1
"""
_TABLES: LiteralString = """
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, {size} AS size_bytes,
       convert_to('"' || replace(n.nspname, '"', '""') || '"."' || replace(c.relname, '"', '""') || '"',
                  getdatabaseencoding()) AS pattern
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
  AND (NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
       OR EXISTS (SELECT FROM pg_extension e WHERE c.oid = ANY (e.extconfig)))
ORDER BY 1
"""
_HELD: LiteralString = """
SELECT DISTINCT l.relation::regclass::text AS name, l.pid FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.granted AND l.mode = 'AccessExclusiveLock' AND c.relkind IN ('r', 'p')
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1, 2 LIMIT 5
"""


def _tables(connection: Connection, locked: bool) -> list[SourceTable]:
    """Return the tables; their sizes only if they are locked, because asking for one waits for ACCESS EXCLUSIVE locks."""
    size = sql.SQL("pg_table_size(c.oid)" if locked else "0")
    return [SourceTable(**row) for row in connection.execute(sql.SQL(_TABLES).format(size=size))]


def _exclusively_held(connection: Connection) -> str:
    """Return the tables of this database that are locked ACCESS EXCLUSIVE, with the server processes that hold them."""
    rows = connection.execute(_HELD).fetchall()
    return ", ".join(f"{row['name']} by process {row['pid']}" for row in rows) or "released meanwhile"


def server_facts(connection: Connection) -> dict[str, Any]:
    """Return the facts about database and server that a restore needs, as JSON-ready values."""
    version = connection.info.server_version
    locale = "datlocale" if version >= 170000 else "daticulocale"
    row = connection.execute(sql.SQL(_FACTS).format(locale=sql.Literal(locale))).fetchone()
    assert row is not None
    return {
        **row,
        "settings": connection.execute(_SETTINGS).fetchall(),
        "extensions": connection.execute(_EXTENSIONS).fetchall(),
        "roles": connection.execute(_ROLES).fetchall(),
    }


@contextlib.contextmanager
def snapshot(connection: Connection, tick: Callable[[], None] = lambda: None) -> Iterator[Snapshot]:
    """Yield an exported snapshot on an autocommit connection and hold it; call `tick` while waiting for locks.

    pg_dump locks its tables after its snapshot was taken, so that a TRUNCATE or ALTER in between is dumped as an empty or
    broken table with exit code 0. Here the locks come first and the snapshot second: LOCK TABLE takes no snapshot in a
    REPEATABLE READ transaction. A table that was created in between is found and the whole step is repeated.
    Raise DumpError if a lock can't be acquired.
    """
    patience = time.monotonic() + LOCK_SECONDS
    attempts = SNAPSHOT_ATTEMPTS
    while attempts:
        tick()
        known = _tables(connection, locked=False)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            _lock(connection, known)
            row = connection.execute("SELECT pg_export_snapshot() AS id").fetchone()
            assert row is not None
            seen = _tables(connection, locked=True)
            if {(t.oid, t.schema, t.name) for t in seen} <= {(t.oid, t.schema, t.name) for t in known}:
                yield Snapshot(row["id"], seen, server_facts(connection))
                return
            attempts -= 1
        except psycopg.errors.LockNotAvailable as error:
            connection.execute("ROLLBACK")
            if time.monotonic() >= patience:
                raise DumpError(
                    f"A table stayed locked for {LOCK_SECONDS} s ({_exclusively_held(connection)}); end the ALTER, TRUNCATE "
                    "or VACUUM FULL that holds it and start the backup again."
                ) from error
        except psycopg.errors.UndefinedTable:
            attempts -= 1
        except psycopg.errors.OutOfMemory as error:
            raise DumpError(
                f"The server can't lock all tables at once ({one_line(error)}): set max_locks_per_transaction "
                "to at least twice its value and restart the server."
            ) from error
        except psycopg.errors.InsufficientPrivilege as error:
            raise SourceError(
                Subject.SOURCE, f"{one_line(error)}; grant the role SELECT on it (pg_read_all_data does)"
            ) from error
        finally:
            with contextlib.suppress(psycopg.Error):
                connection.execute("ROLLBACK")
    raise DumpError("Tables were created or dropped faster than they could be locked; start the backup again.")


def _lock(connection: Connection, tables: list[SourceTable]) -> None:
    """Lock all tables against DDL in the open transaction. Raise LockNotAvailable after LOCK_TRY_SECONDS."""
    wait = min(LOCK_TRY_SECONDS, LOCK_SECONDS)
    connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{wait * 1000:.0f}ms")))
    for start in range(0, len(tables), 500):
        names = sql.SQL(", ONLY ").join(table.identifier for table in tables[start : start + 500])
        connection.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(names))
