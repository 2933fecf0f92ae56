"""DDL that arrives while a backup runs: an archive of one moment, or a failed backup with the reason, never a hole."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from app.engine.backup import dump, parallel_dump
from app.engine.backup.backup import BackupResult
from app.engine.errors import DumpError, SourceError
from app.engine.source import postgres
from tests.support.archives import backup
from tests.support.databases import SourceDatabase
from tests.support.dumping import in_background, once_waiting, restored, zcat
from tests.support.hard_schema import fill_rows
from tests.support.processes import wait_until

ROWS = 4000

# What arrives, and the counts of (first, second, third) after it; None: there is no such table.
DDL = {
    "truncate": ("TRUNCATE second", (ROWS, 0, ROWS)),
    "alter": ("ALTER TABLE second DROP COLUMN t, ADD COLUMN u text DEFAULT 'x'", (ROWS, ROWS, ROWS)),
    "rewrite": ("ALTER TABLE second ALTER COLUMN id TYPE bigint", (ROWS, ROWS, ROWS)),
    "drop": ("DROP TABLE second", (ROWS, None, ROWS)),
    "rename": ("ALTER TABLE second RENAME TO other", (ROWS, None, ROWS)),
    "create": ("CREATE TABLE a_new_one AS SELECT generate_series(1, 7) n", (ROWS, ROWS, ROWS)),
    "recreate": ("DROP TABLE second; CREATE TABLE second AS SELECT generate_series(1, 5) id", (ROWS, 5, ROWS)),
    "replace": ("BEGIN; CREATE TABLE swap (LIKE second); DROP TABLE second; ALTER TABLE swap RENAME TO second; COMMIT",
                (ROWS, 0, ROWS)),
}  # fmt: skip
BEFORE = (ROWS, ROWS, ROWS)


@pytest.fixture
def tables(source_db_each: SourceDatabase) -> SourceDatabase:
    """Three tables, as large as each other."""
    for name in ("first", "second", "third"):
        fill_rows(source_db_each, name, ROWS, 1)
    return source_db_each


def counts(result: BackupResult) -> tuple[int | None, ...]:
    """Return an archive's rows of the three tables."""
    rows = {table.name: table.rows for table in result.manifest.tables}
    return tuple(rows.get(name) for name in ("first", "second", "third"))


def run_ddl(url: str, statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements.split("; "):
            connection.execute(statement.encode())


def restored_counts(source: SourceDatabase, result: BackupResult, folder: Path) -> bytes:
    """Prove with psql that an archive loads; return the dump of what was loaded."""
    return restored(source.server, zcat(result.path, folder))


@pytest.mark.parametrize("what", DDL)
def test_ddl_between_the_listing_of_tables_and_their_locks_is_all_in(
    tables: SourceDatabase,
    what: str,
    documents_dir: Path,
    storage_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    statements, after = DDL[what]
    listed = postgres._tables
    calls: list[int] = []

    def list_then_ddl(connection: psycopg.Connection[dict[str, Any]], locked: bool) -> list[postgres.SourceTable]:
        found = listed(connection, locked)
        calls.append(len(found))
        if len(calls) == 1:
            run_ddl(tables.url, statements)
        return found

    monkeypatch.setattr(postgres, "_tables", list_then_ddl)

    result = backup(tables.url, documents_dir, storage_dir)

    assert counts(result) == after
    names = {table.name for table in result.manifest.tables}
    assert ("a_new_one" in names) == (what == "create")
    assert ("other" in names) == (what == "rename")
    assert b"PostgreSQL database dump complete" in restored_counts(tables, result, tmp_path / "out")


@pytest.mark.parametrize(
    ("mode", "what"), [*(("single", what) for what in DDL), ("parallel", "drop"), ("parallel", "create")]
)
def test_ddl_that_arrives_when_rows_flow_waits_for_the_backup(
    source_db: SourceDatabase,
    mode: str,
    what: str,
    documents_dir: Path,
    storage_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """pg_dump is held with a full pipe in the middle of the tables while the DDL is sent."""
    for name in ("first", "second", "third"):
        fill_rows(source_db, name, ROWS, 16)
    if mode == "parallel":
        monkeypatch.setattr(parallel_dump, "LARGE_TABLE_BYTES", 8192)
        monkeypatch.setattr(postgres, "LOCK_SECONDS", 2)
        monkeypatch.setattr(dump, "LOCK_SECONDS", 2)
    statements, after = DDL[what]
    waits = what != "create"
    started: list[bool] = []
    with in_background(lambda: _ddl_on_signal(source_db.url, statements, started)):
        hold = _hold_first_rows(started, lambda: once_waiting(source_db.admin_url) if waits else True, monkeypatch)
        if mode == "parallel" and waits:  # its later pg_dump runs queue behind the DDL, which waits for us
            with pytest.raises(DumpError, match="an ALTER, TRUNCATE or DROP is waiting"):
                backup(source_db.url, documents_dir, storage_dir, threads=4)
            assert list(storage_dir.iterdir()) == []
            return
        result = backup(source_db.url, documents_dir, storage_dir, threads=4)
    assert hold == [True]
    assert counts(result) == BEFORE
    assert "a_new_one" not in {table.name for table in result.manifest.tables}
    assert b"COPY public.second" in restored_counts(source_db, result, tmp_path / "out")
    later = backup(source_db.url, documents_dir, storage_dir)
    assert counts(later) == after


def _ddl_on_signal(url: str, statements: str, started: list[bool]) -> None:
    assert wait_until(lambda: bool(started), 30)
    run_ddl(url, statements)


def _hold_first_rows(started: list[bool], until: Callable[[], bool], monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Make the splitter stop at the first row data until `until` holds; return a list that tells whether it did."""
    held: list[bool] = []
    feed = dump.DumpSplitter.feed

    def feed_and_hold(self: dump.DumpSplitter, chunk: bytes) -> list[dump.Event]:
        events = feed(self, chunk)
        if not started and any(type(event).__name__ == "Rows" for event in events):
            started.append(True)
            held.append(until())
        return events

    monkeypatch.setattr(dump.DumpSplitter, "feed", feed_and_hold)
    return held


def test_ddl_between_our_locks_and_those_of_pg_dump_fails_with_the_reason(
    tables: SourceDatabase, documents_dir: Path, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The TRUNCATE queues behind our lock and pg_dump's own lock behind the TRUNCATE."""
    monkeypatch.setattr(dump, "LOCK_SECONDS", 1)
    command, started = dump.command, []

    def truncate_first(order: dump.DumpOrder, dsn: str) -> list[str]:
        started.append(True)
        assert once_waiting(tables.admin_url)
        return command(order, dsn)

    monkeypatch.setattr(dump, "command", truncate_first)
    with in_background(lambda: _ddl_on_signal(tables.url, "TRUNCATE second", started)):
        with pytest.raises(DumpError, match=r"LOCK TABLE.*an ALTER, TRUNCATE or DROP is waiting"):
            backup(tables.url, documents_dir, storage_dir)

    assert list(storage_dir.iterdir()) == []
    monkeypatch.undo()
    assert counts(backup(tables.url, documents_dir, storage_dir)) == (ROWS, 0, ROWS)


def test_a_table_that_stays_locked_is_a_clear_error(
    tables: SourceDatabase, documents_dir: Path, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "LOCK_SECONDS", 1)
    with psycopg.connect(tables.url) as holder:
        holder.execute("LOCK TABLE second IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DumpError) as caught:
            backup(tables.url, documents_dir, storage_dir)

    assert re.match(r"A table stayed locked for 1 s \(public\.second by process \d+\)", str(caught.value))
    assert "\n" not in str(caught.value)
    assert list(storage_dir.iterdir()) == []
    assert counts(backup(tables.url, documents_dir, storage_dir)) == BEFORE


def test_a_short_lock_is_waited_for(tables: SourceDatabase, documents_dir: Path, storage_dir: Path) -> None:
    with psycopg.connect(tables.url) as holder:
        holder.execute("TRUNCATE second")

        def release() -> None:
            assert once_waiting(tables.admin_url)
            holder.commit()

        with in_background(release):
            result = backup(tables.url, documents_dir, storage_dir)

    assert counts(result) == (ROWS, 0, ROWS)


def test_tables_that_never_stand_still_are_an_error(
    tables: SourceDatabase, documents_dir: Path, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, number = postgres._tables, iter(range(100))

    def list_then_create(connection: psycopg.Connection[dict[str, Any]], locked: bool) -> list[postgres.SourceTable]:
        found = listed(connection, locked)
        if not locked:
            run_ddl(tables.url, f"CREATE TABLE restless_{next(number)} ()")
        return found

    monkeypatch.setattr(postgres, "_tables", list_then_create)

    with pytest.raises(DumpError, match="created or dropped faster"):
        backup(tables.url, documents_dir, storage_dir)
    assert next(number) == postgres.SNAPSHOT_ATTEMPTS
    assert list(storage_dir.iterdir()) == []


def test_rows_that_change_during_the_dump_are_as_of_its_snapshot(
    source_db: SourceDatabase, documents_dir: Path, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second", "third"):
        fill_rows(source_db, name, ROWS, 16)
    started: list[bool] = []
    done: list[bool] = []

    def change() -> None:
        _ddl_on_signal(source_db.url, "DELETE FROM third; INSERT INTO second VALUES (-1, 'new'); DELETE FROM first", started)
        done.append(True)

    with in_background(change):
        hold = _hold_first_rows(started, lambda: wait_until(lambda: bool(done)), monkeypatch)
        result = backup(source_db.url, documents_dir, storage_dir)

    assert hold == [True]
    assert counts(result) == BEFORE


def test_a_table_that_the_role_may_not_read_is_named(tables: SourceDatabase, documents_dir: Path, storage_dir: Path) -> None:
    with psycopg.connect(tables.admin_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE closed (a integer)")

    with pytest.raises(SourceError, match=r"^\[source\]: .*closed.*grant the role SELECT") as caught:
        backup(tables.url, documents_dir, storage_dir)

    assert "\n" not in str(caught.value)
    assert list(storage_dir.iterdir()) == []


def test_row_security_that_hides_rows_fails_the_backup(
    tables: SourceDatabase, documents_dir: Path, storage_dir: Path
) -> None:
    with psycopg.connect(tables.url) as connection:
        connection.execute("ALTER TABLE second ENABLE ROW LEVEL SECURITY; ALTER TABLE second FORCE ROW LEVEL SECURITY")
        connection.execute(sql.SQL("CREATE POLICY few ON second USING (id < 10)"))

    with pytest.raises(DumpError, match='row-level security policy for table "second"'):
        backup(tables.url, documents_dir, storage_dir)
    assert list(storage_dir.iterdir()) == []
