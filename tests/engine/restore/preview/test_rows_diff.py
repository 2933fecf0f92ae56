"""The preview's comparison of rows: which come back, which go back to what they were, which disappear."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from app.demo.servers import EmbeddedPostgres
from app.engine.restore.preview import rows_diff
from app.engine.restore.preview.findings import Preview
from app.engine.restore.preview.preview import preview
from app.engine.restore.preview.rows_diff import RowsDiff
from app.engine.restore.preview.tables_diff import TableDiff
from tests.support.archives import backup
from tests.support.databases import admin_connection
from tests.support.restoring import Live, Pristine, pristine

SCRIPT = b"""
CREATE TABLE vehicles (id integer PRIMARY KEY, name text NOT NULL, twice integer GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO vehicles SELECT n, 'vehicle ' || n FROM generate_series(1, 3000) n;
CREATE TABLE fills (at date, vehicle integer, litres numeric, PRIMARY KEY (vehicle, at));
INSERT INTO fills SELECT '2026-01-01'::date + n, n % 3, n FROM generate_series(1, 30) n;
CREATE TABLE notes (text text);
INSERT INTO notes VALUES ('once'), ('twice'), ('twice'), (NULL), (E'tab\\tline\\nbackslash\\\\'), ('');
CREATE TABLE users (name text PRIMARY KEY, mail text);
INSERT INTO users VALUES ('ann', 'a@example.org'), ('bob', 'b@example.org');
CREATE TABLE moments (at timestamptz, how_long interval, exact double precision);
INSERT INTO moments VALUES ('2026-03-01 12:00+00', '1 day 02:03:04', 0.1 + 0.2);
CREATE TABLE empty (id integer);
"""


@pytest.fixture(scope="module")
def small(pg18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pristine]:
    with pristine(pg18, tmp_path_factory.mktemp("pristine"), SCRIPT) as made:
        yield made


@pytest.fixture
def live(small: Pristine, tmp_path: Path) -> Iterator[Live]:
    with small.live(tmp_path) as live:
        yield live


def run(live: Live, *statements: str) -> None:
    """Execute statements in the live database, as its owner."""
    with psycopg.connect(live.url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def look(live: Live, archive: Path, until: float = float("inf")) -> Preview:
    """Return the exact preview of an archive."""
    return preview(live.request(archive, scope="database"), exact=True, until=until)


def tables(looked: Preview) -> dict[str, TableDiff]:
    """Return a preview's tables by name."""
    assert looked.blockers == []
    return {table.name: table for table in looked.tables}


def differing(looked: Preview) -> dict[str, RowsDiff | None]:
    """Return a preview's tables that differ in any row."""
    return {name: table.rows for name, table in tables(looked).items() if table.rows is None or not table.rows.is_same}


@pytest.mark.parametrize("server", ["pg16", "pg18"])
def test_every_row_of_the_schema_that_hurts_is_the_same(request: pytest.FixtureRequest, server: str, tmp_path: Path) -> None:
    with pristine(request.getfixturevalue(server), tmp_path) as hard, hard.live(tmp_path) as live:
        assert differing(look(live, hard.archive)) == {}


def test_rows_are_told_apart_by_their_primary_key(small: Pristine, live: Live) -> None:
    run(
        live,
        "DELETE FROM vehicles WHERE id IN (7, 30, 2000)",
        "UPDATE vehicles SET name = 'another' WHERE id BETWEEN 100 AND 124",
        "INSERT INTO vehicles (id, name) VALUES (5000, 'new')",
        "UPDATE fills SET litres = -1 WHERE vehicle = 1 AND at = '2026-01-05'",
        "DELETE FROM fills WHERE vehicle = 2 AND at = '2026-01-03'",
    )
    found = differing(look(live, small.archive))
    assert found == {
        "vehicles": RowsDiff(
            3, 25, 1, ("id",), {"added": ["7", "30", "2000"], "changed": [str(n) for n in range(100, 110)], "lost": ["5000"]}
        ),
        "fills": RowsDiff(1, 1, 0, ("vehicle", "at"), {"added": ["2, 2026-01-03"], "changed": ["1, 2026-01-05"]}),
    }


def test_rows_that_only_stand_elsewhere_are_the_same(small: Pristine, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_diff, "BATCH", 100)
    run(live, "UPDATE vehicles SET name = name WHERE id % 7 = 0", "UPDATE notes SET text = text WHERE text = 'once'")
    assert differing(look(live, small.archive)) == {}


def test_rows_that_are_wider_now_are_compared_in_batches_of_bounded_size(
    small: Pristine, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_diff, "BATCH_BYTES", 10_000)
    run(live, "UPDATE vehicles SET name = repeat('wide', 1000) WHERE id BETWEEN 500 AND 519")
    (found,) = differing(look(live, small.archive)).values()
    assert found is not None
    assert (found.added, found.changed, found.lost) == (0, 20, 0)


def test_without_a_primary_key_equal_rows_are_counted(small: Pristine, live: Live) -> None:
    run(live, "DELETE FROM notes WHERE text IN ('twice', '')", "INSERT INTO notes VALUES ('twice'), ('once'), ('once')")
    assert differing(look(live, small.archive)) == {"notes": RowsDiff(2, 0, 2)}


def test_a_primary_key_that_the_backup_did_not_have_tells_nothing(small: Pristine, live: Live) -> None:
    run(
        live,
        "DELETE FROM notes WHERE text IS NULL OR ctid IN (SELECT max(ctid) FROM notes GROUP BY text HAVING count(*) > 1)",
        "UPDATE notes SET text = text || '!'",
        "ALTER TABLE notes ADD PRIMARY KEY (text)",
    )
    assert differing(look(live, small.archive)) == {"notes": RowsDiff(6, 0, 4)}


def test_columns_that_come_back_and_disappear_are_named_at_once(small: Pristine, live: Live) -> None:
    run(live, "ALTER TABLE users DROP COLUMN mail", 'ALTER TABLE users ADD COLUMN "o""dd, name" text')
    for looked in (preview(live.request(small.archive)), look(live, small.archive)):
        users = tables(looked)["users"]
        assert (users.columns_added, users.columns_lost, users.rows) == (("mail",), ('o"dd, name',), None)
        assert {name for name, table in tables(looked).items() if table.columns_added or table.columns_lost} == {"users"}


def test_settings_made_since_do_not_change_how_values_are_compared(small: Pristine, live: Live) -> None:
    with admin_connection(live.server) as connection:
        for setting in (
            "TimeZone = 'Asia/Kolkata'",
            "IntervalStyle = iso_8601",
            "DateStyle = 'SQL, DMY'",
            "extra_float_digits = 0",
        ):
            connection.execute(f'ALTER DATABASE "{live.name}" SET {setting}'.encode())
    assert differing(look(live, small.archive)) == {}


@pytest.mark.parametrize(("encoding", "name"), [("LATIN1", "Kühler"), ("SQL_ASCII", "Kühler"), ("EUC_JP", "車両")])
def test_a_database_of_another_encoding_is_compared(
    pg18: EmbeddedPostgres, tmp_path: Path, encoding: str, name: str
) -> None:
    database = f"encoded_{encoding.lower()}"
    url = pg18.url(database)
    documents, storage = tmp_path / "documents", tmp_path / "backups"
    documents.mkdir()
    storage.mkdir()
    with admin_connection(pg18) as connection:
        connection.execute(f"CREATE DATABASE {database} ENCODING {encoding} TEMPLATE template0 LOCALE 'C'".encode())
    try:
        with psycopg.connect(url, autocommit=True, client_encoding="UTF8") as connection:
            table = sql.Identifier(name)
            connection.execute(sql.SQL("CREATE TABLE {} (id text PRIMARY KEY, {} text)").format(table, table))
            connection.execute(sql.SQL("INSERT INTO {} VALUES ({}, {}), ('b', '')").format(table, name, name))
            live = Live(pg18, database, "postgres", url, url, documents, tmp_path / ".restores")
            archive = backup(url, documents, storage).path
            assert differing(look(live, archive)) == {}
            connection.execute(sql.SQL("UPDATE {} SET {} = 'x'").format(table, table))
        (found,) = differing(look(live, archive)).values()
        assert found is not None
        assert (found.added, found.changed, found.lost) == (0, 2, 0)
    finally:
        with admin_connection(pg18) as connection:
            connection.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())


def test_what_is_not_compared_in_time_is_not_said_to_be_the_same(small: Pristine, live: Live) -> None:
    found = tables(look(live, small.archive, until=time.monotonic()))
    assert {name: table.rows for name, table in found.items()} == dict.fromkeys(found)
    assert found["vehicles"].rows_now == 3000


def test_a_table_that_differs_too_much_is_given_up_and_the_others_are_not(
    small: Pristine, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_diff, "MOST_PENDING", 1000)
    monkeypatch.setattr(rows_diff, "BATCH", 100)
    run(live, "UPDATE vehicles SET name = 'another'", "UPDATE users SET mail = NULL WHERE name = 'ann'")
    found = differing(look(live, small.archive))
    assert found == {"vehicles": None, "users": RowsDiff(0, 1, 0, ("name",), {"changed": ["ann"]})}


def test_rows_of_many_megabytes_are_not_compared(pg18: EmbeddedPostgres, tmp_path: Path) -> None:
    script = b"CREATE TABLE wide (t text); INSERT INTO wide VALUES (repeat('wide', 5000000)); CREATE TABLE narrow (t text)"
    with pristine(pg18, tmp_path, script) as wide, wide.live(tmp_path) as live:
        assert differing(look(live, wide.archive)) == {"wide": None}


def test_a_table_that_may_not_be_read_whole_is_not_compared(small: Pristine, live: Live) -> None:
    run(live, "ALTER TABLE notes ENABLE ROW LEVEL SECURITY", "ALTER TABLE notes FORCE ROW LEVEL SECURITY")
    assert differing(look(live, small.archive)) == {"notes": None}


def test_damage_that_is_met_is_a_blocker(small: Pristine, live: Live, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tar.gz"
    data = bytearray(small.archive.read_bytes())
    looked = look(live, small.archive)
    assert looked.blockers == []
    data[data.index(b"\x1f\x8b", 2000) + 40] ^= 0xFF
    damaged.write_bytes(data)
    (blocker,) = look(live, damaged).blockers
    assert "damaged" in blocker


@pytest.mark.parametrize("exact", [False, True])
def test_a_lock_in_the_way_is_said_in_words(small: Pristine, live: Live, exact: bool) -> None:
    run(live, "ANALYZE")
    with psycopg.connect(live.url) as holder:
        holder.execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        (blocker,) = preview(live.request(small.archive), exact=exact).blockers
    assert "locked" in blocker
    assert time.monotonic() - began < 60


def test_a_long_count_ends_when_the_caller_has_had_enough(
    small: Pristine, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Enough(Exception):
        pass

    def enough(_phase: str, _done: int, _total: int | None) -> None:
        with admin_connection(live.server) as connection:
            query = "SELECT FROM pg_stat_activity WHERE datname = %s AND query LIKE 'SELECT count(*)%%' AND state = 'active'"
            if connection.execute(query, [live.name]).fetchone() is not None:
                raise Enough

    monkeypatch.setattr("app.engine.progress.REPORT_EVERY_SECONDS", 0.02)
    run(live, "INSERT INTO empty SELECT generate_series(1, 3000000)")
    with pytest.raises(Enough):
        preview(live.request(small.archive, scope="database"), exact=True, progress=enough)
    with admin_connection(live.server) as connection:
        left = connection.execute("SELECT query FROM pg_stat_activity WHERE datname = %s", [live.name]).fetchall()
    assert left == []
