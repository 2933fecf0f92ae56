"""What a crash took from a restored state is noticed before it is called live."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from app.demo.servers import EmbeddedPostgres
from app.engine.restore import swap
from app.engine.restore.places.contents import database_losses, flush_wal, looking_at, record_database
from app.engine.restore.places.journal import Journal, read
from app.engine.restore.recovery import Recovered, recover
from app.engine.restore.restore import restore
from app.engine.source.names import as_dumped
from tests.support.databases import SourceDatabase, admin_connection, psql
from tests.support.hard_schema import HARD_SCHEMA
from tests.support.restoring import Live, Pristine
from tests.support.restoring_child import killed_at
from tests.support.small_pair import change

LOSSES = [
    ("DROP INDEX hen_name", "indexes instead of"),
    ("DROP TABLE egg", "tables instead of"),
    ("DROP SEQUENCE counter", "sequences instead of"),
    ("ALTER TABLE egg DROP CONSTRAINT laid_by", "constraints instead of"),
    ("DROP FUNCTION one()", "functions instead of"),
    ("SELECT lo_unlink(70001)", "large objects instead of"),
    ("DELETE FROM egg WHERE id = 2", "2 rows instead of 3 in table public.egg"),
    ("TRUNCATE parted_1", "0 rows instead of 2 in table public.parted"),
    ("ALTER TABLE egg DROP COLUMN more", "definitions"),
    ("ALTER TABLE egg ALTER COLUMN more DROP DEFAULT", "definitions"),
    ("REVOKE ALL ON hen FROM PUBLIC", "definitions"),
    ("COMMENT ON TABLE hen IS NULL", "definitions"),
    ("DROP POLICY mine ON hen", "definitions"),
    ("CREATE OR REPLACE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 2'", "definitions"),
    ("SELECT setval('counter', 5)", "1 sequences set back"),
]
SCHEMA = """
CREATE TABLE hen (id integer PRIMARY KEY, name text);
CREATE INDEX hen_name ON hen (name);
CREATE TABLE egg (id integer, hen integer CONSTRAINT laid_by REFERENCES hen, more integer DEFAULT 7);
CREATE TABLE parted (id integer) PARTITION BY HASH (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE SEQUENCE counter;
SELECT setval('counter', 9);
CREATE FUNCTION one() RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE POLICY mine ON hen USING (true);
GRANT SELECT ON hen TO PUBLIC;
COMMENT ON TABLE hen IS 'a hen';
INSERT INTO hen VALUES (1, 'a');
INSERT INTO egg VALUES (1, 1), (2, 1), (3, 1);
INSERT INTO parted VALUES (1), (2);
SELECT lo_from_bytea(70001, 'large');
"""


def test_every_kind_of_loss_is_noticed(source_db_each: SourceDatabase) -> None:
    psql(source_db_each.bin_dir, source_db_each.url, SCHEMA)
    rows = {("public", "hen"): 1, ("public", "egg"): 3, ("public", "parted"): 2}
    with looking_at(source_db_each.url, uuid4()) as connection:
        recorded = record_database(connection, rows)
        assert database_losses(connection, recorded) == []
        for statement, loss in LOSSES:
            with connection.transaction(force_rollback=True):
                connection.execute("SET LOCAL search_path = public")
                connection.execute(statement.encode())
                connection.execute("SET LOCAL search_path = pg_catalog")
                found = database_losses(connection, recorded)
            assert any(loss in text for text in found), (statement, found)


def test_vacuum_analyze_and_a_used_sequence_are_no_loss(source_db_each: SourceDatabase) -> None:
    psql(source_db_each.bin_dir, source_db_each.url, HARD_SCHEMA.read_bytes())
    with looking_at(source_db_each.url, uuid4()) as connection:
        tables = connection.execute(
            "SELECT convert_to(schemaname, 'UTF8') AS schema, convert_to(tablename, 'UTF8') AS name FROM pg_tables"
            " WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema'"
        ).fetchall()
        recorded = record_database(connection, {(as_dumped(row["schema"]), as_dumped(row["name"])): -1 for row in tables})
        assert len(recorded.rows) > 20
        before = database_losses(connection, recorded, rows=False)
        connection.execute("VACUUM (FREEZE, ANALYZE)")
        connection.execute("SELECT nextval('public.bulk_id_seq')")
        assert (before, database_losses(connection, recorded, rows=False)) == ([], [])


def test_one_commit_waits_for_those_that_were_not_waited_for(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    settings = {"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "autovacuum": "off"}
    with EmbeddedPostgres(18, tmp_path_factory.mktemp("lazy") / "data", durable=False, settings=settings) as server:
        with psycopg.connect(server.url(), autocommit=True) as other, swap.maintenance(server.url(), uuid4()) as ours:
            other.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000)")
            flush_wal(ours)
            other.execute("CREATE TABLE lost AS SELECT generate_series(1, 1000)")
            server.crash()
        server.start()
        with admin_connection(server) as connection:
            found = connection.execute("SELECT relname FROM pg_class WHERE relname IN ('kept', 'lost')").fetchall()
    assert found == [("kept",)]


def test_the_id_of_a_transaction_in_place_is_never_given_to_another_after_a_crash(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    settings = {"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "autovacuum": "off"}
    with EmbeddedPostgres(18, tmp_path_factory.mktemp("lazy") / "data", durable=False, settings=settings) as server:
        journal = Journal(uuid4(), "staging")
        with contextlib.closing(psycopg.connect(server.url(), row_factory=dict_row)) as connection:
            connection.execute("CREATE TABLE restored (id integer)")
            journal = swap.commit_point(connection, journal, tmp_path / "state", server.url())
            server.crash()
        server.start()
        with admin_connection(server) as connection:
            for number in range(20):
                connection.execute(f"CREATE TABLE by_the_app_{number} ()")
        assert swap.settle(journal, tmp_path / "state", server.url()) == "old"


@pytest.mark.parametrize("lost", ["row", "index", "document", "database"])
def test_a_staged_state_that_is_not_whole_is_not_made_live(small: Pristine, live: Live, lost: str) -> None:
    change(live)
    old = live.state()
    restore_id = killed_at("journal.write 7 after", "restore", live, small.archive)
    short = restore_id.hex[:12]
    staged = live.server.url(f"{live.name}_restore_{short}")
    if lost == "row":
        psql(live.server.bin_dir, staged, "DELETE FROM vehicles WHERE id = 1")
    elif lost == "index":
        psql(live.server.bin_dir, staged, "DROP INDEX vehicles_name_idx")
    elif lost == "document":
        (live.documents.parent / f".{live.documents.name}_restore_{short}" / "old.txt").unlink()
    else:
        with admin_connection(live.server) as connection:
            connection.execute(f'DROP DATABASE "{live.name}_restore_{short}"')

    (recovered,) = recover(live.state_dir, live.source())

    assert (recovered.restore_id, recovered.outcome) == (restore_id, "undone")
    assert recovered.loss
    assert live.state() == old
    assert live.remains() == []
    restore(live.request(small.archive))


def test_a_new_state_that_has_been_in_use_is_never_taken_away(small: Pristine, live: Live) -> None:
    new = live.state()
    change(live)
    restore_id = killed_at("swap.exchange_databases 1 after", "restore", live, small.archive)
    psql(live.server.bin_dir, live.url, "CREATE TABLE by_the_app (id integer); DELETE FROM vehicles WHERE id = 1")

    (recovered,) = recover(live.state_dir, live.source())

    assert recovered == Recovered(restore_id, "completed", recovered.detail, changes=recovered.changes)
    assert "tables instead of" in recovered.changes
    assert live.state().documents == new.documents
    journal = read(live.state_dir / f"{restore_id}.json")
    assert journal.database_contents is journal.folder_contents is None
    assert len(json.dumps(str(journal))) < 2000
