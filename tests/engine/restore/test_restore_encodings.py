"""Databases that are not in UTF-8: names and values in their own encodings, restored in every way there is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from app.demo.servers import EmbeddedPostgres
from app.engine.backup import parallel_dump
from app.engine.proof.restore_test import RestoreTest, verify_by_restoring
from app.engine.restore.preview.preview import preview
from app.engine.restore.restore import restore
from tests.support.archives import KEY, backup
from tests.support.databases import admin_connection
from tests.support.dumping import dumped
from tests.support.hostile import plain_tar
from tests.support.restoring import Live, drop_all_like

NAMES = {"LATIN1": "Kühler", "WIN1252": "Kühler €", "SQL_ASCII": "Kühler", "EUC_JP": "車両", "UTF8": "Kühler 🚗"}


@pytest.fixture(params=NAMES)
def live(request: pytest.FixtureRequest, pg18: EmbeddedPostgres, tmp_path: Path) -> Iterator[Live]:
    """A live database of an encoding with a schema, a table, columns, an index and keys whose names have no ASCII."""
    encoding, name = request.param, NAMES[request.param]
    database, owner = f"encoded_{uuid4().hex[:10]}", f"owner_{uuid4().hex[:10]}"
    documents = tmp_path / "app" / "documents"
    documents.mkdir(parents=True)
    (tmp_path / "backups").mkdir()
    with admin_connection(pg18) as connection:
        connection.execute(f"CREATE ROLE {owner} LOGIN CREATEDB CREATEROLE PASSWORD 'x'".encode())
        connection.execute(
            f"CREATE DATABASE {database} ENCODING {encoding} TEMPLATE template0 LOCALE 'C' OWNER {owner}".encode()
        )
    url = pg18.url(database, owner, "x")
    script = sql.SQL(
        "CREATE SCHEMA {n}; CREATE TABLE {n}.{n} (id text PRIMARY KEY, {n} text NOT NULL);"
        "INSERT INTO {n}.{n} SELECT n || {v}, {v} || n FROM generate_series(1, 500) n;"
        "CREATE INDEX {i} ON {n}.{n} ({n});"
        "CREATE TABLE {n}.parts (part text REFERENCES {n}.{n}, t text);"
        "INSERT INTO {n}.parts SELECT id, 'part' FROM {n}.{n};"
        "CREATE STATISTICS {n}.{n} ON id, {n} FROM {n}.{n};"
        "ANALYZE"
    ).format(n=sql.Identifier(name), v=name, i=sql.Identifier(f"{name} index"))
    with psycopg.connect(url, autocommit=True, client_encoding="UTF8") as connection:
        connection.execute(script.as_string().encode())
        if encoding == "SQL_ASCII":
            connection.execute("CREATE TABLE bytes (t text)")
            connection.execute(b"INSERT INTO bytes VALUES (convert_from('\\xfcff', 'SQL_ASCII'))")
    try:
        yield Live(pg18, database, owner, url, pg18.url(database), documents, tmp_path / ".restores")
    finally:
        drop_all_like(pg18, database)
        with admin_connection(pg18) as connection:
            connection.execute(f"DROP OWNED BY {owner}; DROP ROLE {owner}".encode())


@pytest.fixture
def archive(live: Live, tmp_path: Path) -> Path:
    return backup(live.url, live.documents, tmp_path / "backups").path


def change(live: Live) -> None:
    """Delete every row, as the owner."""
    query = "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND oid >= 16384"
    with psycopg.connect(live.url, autocommit=True, client_encoding="UTF8") as connection:
        for (table,) in connection.execute(query).fetchall():
            connection.execute(f"TRUNCATE {table} CASCADE".encode())


def name_of(live: Live) -> str:
    """Return the name that is stored in a live database."""
    with psycopg.connect(live.url, client_encoding="UTF8") as connection:
        row = connection.execute("SELECT getdatabaseencoding()::text").fetchone()
    assert row is not None
    return NAMES[row[0]]


def test_all_of_it_comes_back(live: Live, archive: Path) -> None:
    before = live.state()
    change(live)
    result = restore(live.request(archive))
    assert live.state() == before
    assert result.warnings == []
    name = name_of(live)
    tables = {(t.schema, t.name): (t.rows_now, t.rows_backup) for t in result.tables if t.schema != "public"}
    assert tables == {(name, name): (0, 500), (name, "parts"): (0, 500)}


def test_all_of_it_comes_back_inside_the_live_database(live: Live, archive: Path) -> None:
    before = live.state()
    change(live)
    with admin_connection(live.server) as connection:
        connection.execute(f"ALTER ROLE {live.owner} NOCREATEDB".encode())
    result = restore(live.request(archive))
    assert result.strategy == "in_place"
    assert live.state() == before


def test_all_of_it_comes_back_from_a_plain_archive(live: Live, tmp_path: Path) -> None:
    plain = plain_tar(tmp_path / "plain.tar.gz", dumped(live.server.bin_dir, live.url), live.documents)
    before = live.state()
    change(live)
    result = restore(live.request(plain))
    assert live.state().dump == before.dump
    name = name_of(live)
    assert {(t.schema, t.name): t.rows_backup for t in result.tables if t.schema == name} == {
        (name, name): 500,
        (name, "parts"): 500,
    }


def test_the_preview_knows_the_tables_of_a_plain_archive_again(live: Live, tmp_path: Path) -> None:
    plain = plain_tar(tmp_path / "plain.tar.gz", dumped(live.server.bin_dir, live.url), live.documents)
    looked = preview(live.request(plain), exact=True)
    assert looked.blockers == []
    assert {(t.rows_now, t.rows_backup) for t in looked.tables if t.schema == name_of(live)} == {(500, 500)}


def test_it_is_proven_by_a_test_restore(live: Live, archive: Path) -> None:
    report = verify_by_restoring(RestoreTest(archive, live.source(), KEY, uuid4()))
    assert (report.problems, report.rows >= 1000) == ([], True)


def test_large_tables_are_dumped_by_pg_dumps_of_their_own(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel_dump, "LARGE_TABLE_BYTES", 1)
    made = backup(live.url, live.documents, tmp_path / "backups", threads=4)
    before = live.state()
    change(live)
    restore(live.request(made.path))
    assert live.state() == before


@pytest.mark.parametrize("exact", [False, True])
def test_the_preview_knows_its_tables_again(live: Live, archive: Path, exact: bool) -> None:
    name = name_of(live)
    looked = preview(live.request(archive), exact=exact)
    assert looked.blockers == []
    tables = {(t.schema, t.name): t for t in looked.tables if t.schema != "public"}
    assert {key: (t.rows_now, t.rows_backup) for key, t in tables.items()} == {
        (name, name): (500, 500),
        (name, "parts"): (500, 500),
    }
    with psycopg.connect(live.url, autocommit=True, client_encoding="UTF8") as connection:
        table = sql.Identifier(name, name)
        column = sql.Identifier(name)
        connection.execute(sql.SQL("UPDATE {} SET {} = 'x' WHERE id = {}").format(table, column, f"7{name}"))
    rows = {(t.schema, t.name): t.rows for t in preview(live.request(archive), exact=exact).tables}[name, name]
    if not exact:
        assert rows is None
        return
    assert rows is not None
    assert (rows.added, rows.changed, rows.lost, rows.examples) == (0, 1, 0, {"changed": [f"7{name}"]})
