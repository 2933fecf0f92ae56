"""Backup, preview, test restore and restore where roles, servers, names and folders are not as everybody has them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, urlencode
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from app.demo.servers import EmbeddedPostgres
from app.engine.proof.restore_test import RestoreTest, verify_by_restoring
from app.engine.restore.preview.preview import preview
from app.engine.restore.restore import restore
from app.engine.source.postgres import connect
from app.engine.source.preflight import Source
from tests.support.archives import APP, KEY, backup
from tests.support.databases import admin_connection
from tests.support.restoring import Live, drop_all_like

TABLES = rb"""
CREATE SCHEMA evil;
CREATE TABLE t (id int PRIMARY KEY, n text, at timestamptz DEFAULT now(), b bytea, f float8, i interval);
INSERT INTO t SELECT n, 'b\a ''quote' || chr(228) || chr(8364), now(), '\xdeadbeef', random(), '1 mon 2 days 03:04:05'
    FROM generate_series(1, 3000) n;
CREATE INDEX ON t (n);
CREATE VIEW v AS SELECT * FROM t WHERE n LIKE '%\\%';
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'a\b' $$;
CREATE TABLE child (t int REFERENCES t);
"""

SETTINGS = {
    "timeouts": {
        "statement_timeout": "50ms",
        "lock_timeout": "50ms",
        "idle_in_transaction_session_timeout": "200ms",
        "transaction_timeout": "500ms",
        "idle_session_timeout": "300ms",
    },
    "read only": {"default_transaction_read_only": "on"},
    "formats": {
        "DateStyle": "SQL, DMY",
        "IntervalStyle": "iso_8601",
        "bytea_output": "escape",
        "extra_float_digits": "-5",
        "TimeZone": "Asia/Kolkata",
        "quote_all_identifiers": "on",
    },
    "encoding": {"client_encoding": "LATIN1"},
    "strings": {"standard_conforming_strings": "off", "backslash_quote": "off"},
    "search path": {"search_path": "evil, public", "row_security": "off"},
    "transactions": {"default_transaction_isolation": "serializable", "default_transaction_deferrable": "on"},
    "planner": {"enable_seqscan": "off", "work_mem": "64kB", "jit": "on", "check_function_bodies": "on"},
}
"""Settings of the role in BACKUP_SOURCE_URL."""


@contextmanager
def live_pair(
    server: EmbeddedPostgres, documents: Path, name: str = "around", options: str = "", role: str = "owner"
) -> Iterator[Live]:
    """Yield a live pair with these names for database and owner, and these options of the database."""
    unique = uuid4().hex[:8]
    database, owner = f"{unique} {name}", f"{unique} {role}"
    url = url_of(server, database, owner)
    with admin_connection(server) as connection:
        identifiers = {"database": sql.Identifier(database), "owner": sql.Identifier(owner)}
        connection.execute(sql.SQL("CREATE ROLE {owner} LOGIN CREATEDB CREATEROLE PASSWORD 'p:/@ss'").format(**identifiers))
        create = f"CREATE DATABASE {{database}} TEMPLATE template0 ENCODING UTF8 {options} OWNER {{owner}}"
        connection.execute(sql.SQL(create).format(**identifiers))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLES)
    try:
        yield Live(server, database, owner, url, admin_url(server, database), documents, documents.parent / ".restores")
    finally:
        drop_all_like(server, database[:40])  # the old state has a name that is cut
        with admin_connection(server) as connection:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(owner)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(owner)))


def url_of(server: EmbeddedPostgres, database: str, owner: str) -> str:
    """Return the URL with which that owner opens that database."""
    at = conninfo_to_dict(server.url("postgres"))
    user, password = quote(owner, safe=""), quote("p:/@ss", safe="")
    return f"postgresql://{user}:{password}@{at['host']}:{at['port']}/{quote(database, safe='')}"


def admin_url(server: EmbeddedPostgres, database: str) -> str:
    """Return what a superuser opens that database with."""
    return make_conninfo(server.url("postgres"), dbname=database)


def set_for(live: Live, settings: dict[str, str]) -> None:
    """Set the owner role's settings."""
    with admin_connection(live.server) as connection:
        for name, value in settings.items():
            statement = sql.SQL("ALTER ROLE {} SET {} TO {}")
            value_as_is = sql.SQL(value) if name == "search_path" else sql.Literal(value)
            connection.execute(statement.format(sql.Identifier(live.owner), sql.Identifier(name.lower()), value_as_is))


def state(live: Live) -> tuple[object, str]:
    """Return the rows and the document as they are now."""
    with psycopg.connect(live.admin_url) as connection:
        rows = connection.execute("SELECT count(*), md5(string_agg(t::text, ',' ORDER BY id)) FROM t").fetchone()
    return rows, (live.documents / "a.txt").read_text()


def check_all(live: Live, storage: Path, url: str | None = None) -> None:
    """Make a backup, preview it, prove it, change everything and restore it."""
    (live.documents / "a.txt").write_text("before")
    storage.mkdir()
    before = state(live)
    archive = backup(url or live.url, live.documents, storage).path
    looked = preview(live.request(archive, url), exact=True)
    assert looked.blockers == []
    assert [table.rows is not None and table.rows.is_same for table in looked.tables] == [True, True]
    with psycopg.connect(live.admin_url) as connection:
        connection.execute("DELETE FROM t WHERE id > 5")
    (live.documents / "a.txt").write_text("after")
    test = RestoreTest(archive, Source(url or live.url, live.documents, APP), KEY, uuid4())
    assert verify_by_restoring(test).problems == []
    result = restore(live.request(archive, url))
    assert (result.strategy, result.warnings) == ("swap", [])
    assert state(live) == before


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_of_the_role(pg18: EmbeddedPostgres, documents_dir: Path, tmp_path: Path, kind: str) -> None:
    with live_pair(pg18, documents_dir) as live:
        set_for(live, SETTINGS[kind])
        check_all(live, tmp_path / "archives")


def test_no_timeout_of_the_role_ends_our_sessions(
    pg16: EmbeddedPostgres, pg18: EmbeddedPostgres, documents_dir: Path
) -> None:
    for server in (pg16, pg18):
        with live_pair(server, documents_dir) as live:
            known = {
                name: value
                for name, value in SETTINGS["timeouts"].items()
                if server is pg18 or name != "transaction_timeout"
            }
            set_for(live, known)
            with closing(connect(live.url, "test")) as connection:
                query = "SELECT name FROM pg_settings WHERE name = ANY(%s) AND setting <> '0'"
                assert connection.execute(query, [list(known)]).fetchall() == []
                time.sleep(1)
                assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}


@pytest.mark.parametrize("name", ["x" * 54, "My-DB.ü $%&'\"{}"])
def test_names_of_database_and_owner(pg18: EmbeddedPostgres, documents_dir: Path, tmp_path: Path, name: str) -> None:
    with live_pair(pg18, documents_dir, name, role="O'wner-@:/ü") as live:
        check_all(live, tmp_path / "archives")


def test_a_locale_that_is_built_in(pg18: EmbeddedPostgres, documents_dir: Path, tmp_path: Path) -> None:
    options = "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'"
    with live_pair(pg18, documents_dir, options=options) as live:
        check_all(live, tmp_path / "archives")
        with psycopg.connect(live.url) as connection:
            query = "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = current_database()"
            assert connection.execute(query).fetchone() == ("b", "C.UTF-8")


def test_a_server_by_its_socket(pg18: EmbeddedPostgres, documents_dir: Path, tmp_path: Path) -> None:
    with live_pair(pg18, documents_dir) as live:
        with admin_connection(pg18) as connection:
            row = connection.execute("SELECT current_setting('unix_socket_directories'), current_setting('port')").fetchone()
        assert row is not None
        where = urlencode({"host": row[0], "port": row[1], "user": live.owner, "password": "p:/@ss"}, quote_via=quote)
        check_all(live, tmp_path / "archives", f"postgresql:///{quote(live.name)}?{where}")


def test_a_folder_behind_a_link_stays_behind_it(pg18: EmbeddedPostgres, tmp_path: Path) -> None:
    real, link = tmp_path / "my döcuments" / "of the app", tmp_path / "link"
    real.mkdir(parents=True)
    link.symlink_to(real)
    with live_pair(pg18, link) as live:
        check_all(live, tmp_path / "archives")
    assert link.is_symlink()
    assert (real / "a.txt").read_text() == "before"


def test_a_database_that_another_role_owns(pg18: EmbeddedPostgres, documents_dir: Path, tmp_path: Path) -> None:
    boss = f"boss_{uuid4().hex[:8]}"
    with live_pair(pg18, documents_dir) as live:
        with admin_connection(pg18) as connection:
            names = {"boss": sql.Identifier(boss), "owner": sql.Identifier(live.owner), "name": sql.Identifier(live.name)}
            connection.execute(sql.SQL("CREATE ROLE {boss} NOLOGIN").format(**names))
            connection.execute(sql.SQL("GRANT {boss} TO {owner}").format(**names))
            connection.execute(sql.SQL("ALTER DATABASE {name} OWNER TO {boss}").format(**names))
        try:
            check_all(live, tmp_path / "archives")
            with admin_connection(pg18) as connection:
                query = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s"
                assert connection.execute(query, [live.name]).fetchone() == (boss,)
        finally:
            drop_all_like(pg18, live.name)
            with admin_connection(pg18) as connection:
                connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(boss)))
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(boss)))
