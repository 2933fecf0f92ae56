"""A database that hurts, through an archive and back with tar, gzip and psql only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from app.demo.servers import EmbeddedPostgres
from app.engine.archive.reader import open_archive
from app.engine.backup import parallel_dump
from app.engine.backup.backup import BackupResult
from tests.support.archives import APP, KEY, backup
from tests.support.databases import SourceDatabase, fresh_source
from tests.support.dumping import dumped, restored, unpack, without_keys, zcat
from tests.support.hard_schema import fill_hard

_EMPTY_BYTES = 8192


@pytest.fixture(scope="module", params=[16, 18], ids=["pg16", "pg18"])
def hard(request: pytest.FixtureRequest) -> Iterator[SourceDatabase]:
    """The database that hurts, on each version; no test changes it."""
    server: EmbeddedPostgres = request.getfixturevalue(f"pg{request.param}")
    with fresh_source(server) as source:
        fill_hard(source)
        yield source


@pytest.fixture
def archive(
    hard: SourceDatabase, documents_dir: Path, storage_dir: Path, mode: str, monkeypatch: pytest.MonkeyPatch
) -> BackupResult:
    """An archive of it; `parallel` makes every table that has rows a large one."""
    if mode == "parallel":
        monkeypatch.setattr(parallel_dump, "LARGE_TABLE_BYTES", _EMPTY_BYTES)
        return backup(hard.url, documents_dir, storage_dir, threads=4)
    return backup(hard.url, documents_dir, storage_dir, threads=2)


both_modes = pytest.mark.parametrize("mode", ["single", "parallel"])
single = pytest.mark.parametrize("mode", ["single"])


@single
def test_tar_shows_exactly_the_layout_of_the_format(archive: BackupResult, documents_dir: Path, tmp_path: Path) -> None:
    folder = unpack(archive.path, tmp_path / "out")

    assert sorted(path.name for path in folder.iterdir()) == [
        "database",
        "documents",
        "documents.index.jsonl",
        "manifest.json",
    ]
    assert [path.name for path in (folder / "database").iterdir()] == [f"{APP}.sql.gz"]
    assert sorted(path.name for path in (folder / "documents").iterdir()) == sorted(
        path.name for path in documents_dir.iterdir()
    )
    assert archive.warnings == []


@both_modes
def test_psql_restores_a_database_whose_dump_is_the_same(
    hard: SourceDatabase, archive: BackupResult, tmp_path: Path
) -> None:
    text = zcat(archive.path, tmp_path / "out")

    assert restored(hard.server, text) == dumped(hard.bin_dir, hard.url)


@single
def test_the_sql_in_the_archive_is_what_pg_dump_writes(hard: SourceDatabase, archive: BackupResult, tmp_path: Path) -> None:
    text = without_keys(zcat(archive.path, tmp_path / "out"))
    options = ("--statistics",) if archive.manifest.database.facts["server_version_num"] >= 180000 else ()

    plain = dumped(hard.bin_dir, hard.url, *options)
    assert text == plain.replace(b"\\restrict fixed\n", b"").replace(b"\\unrestrict fixed\n", b"")
    assert archive.manifest.database.sql_bytes > len(text)


@both_modes
def test_the_manifest_counts_the_rows_of_every_table(hard: SourceDatabase, archive: BackupResult) -> None:
    with psycopg.connect(hard.url) as connection:
        tables = connection.execute(
            "SELECT nspname, relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
            "WHERE relkind = 'r' AND nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')"
        ).fetchall()
        counts = {
            name: connection.execute(sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(*name))).fetchone()
            for name in tables
        }

    assert {(table.schema, table.name): (table.rows,) for table in archive.manifest.tables} == counts
    assert len(counts) >= 22
    assert counts["public", "bulk"] == (20_000,)


@both_modes
def test_the_segments_of_a_table_are_what_copy_sends(hard: SourceDatabase, archive: BackupResult) -> None:
    found: dict[str, bytes] = {}
    with open_archive(archive.path, KEY) as reader:
        for segment in archive.manifest.database.segments:
            if segment.kind == "copy":
                text = b"".join(reader.segment_text(segment))
                assert text.count(b"\n") == segment.rows
                assert len(text) == segment.size_bytes
                found[segment.statement] = found.get(segment.statement, b"") + text

    with psycopg.connect(hard.url) as connection:
        connection.execute("SET DateStyle = ISO; SET IntervalStyle = postgres; SET extra_float_digits = 3")
        for statement, text in found.items():
            assert statement.endswith(" FROM stdin;")
            query = statement.removesuffix(" FROM stdin;") + " TO STDOUT"
            with connection.cursor().copy(query.encode()) as copy:
                assert b"".join(bytes(part) for part in copy) == text, statement
    assert len(found) == len(archive.manifest.tables)


@both_modes
def test_rows_of_an_enum_hashed_table_are_counted_by_its_root(
    source_db_each: SourceDatabase, mode: str, documents_dir: Path, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode == "parallel":
        monkeypatch.setattr(parallel_dump, "LARGE_TABLE_BYTES", _EMPTY_BYTES)
    with psycopg.connect(source_db_each.url) as connection:
        connection.execute(
            "CREATE TYPE mood AS ENUM ('a', 'b', 'c', 'd');"
            "CREATE TABLE by_mood (m mood, n integer) PARTITION BY HASH (m);"
            "CREATE TABLE by_mood_0 PARTITION OF by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
            "CREATE TABLE by_mood_1 PARTITION OF by_mood FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
            "INSERT INTO by_mood SELECT (enum_range(NULL::mood))[1 + n % 4], n FROM generate_series(1, 1000) n"
        )

    result = backup(source_db_each.url, documents_dir, storage_dir, threads=4)

    assert [(table.name, table.rows) for table in result.manifest.tables] == [("by_mood", 1000)]


@both_modes
def test_functions_that_mention_begin_and_end_do_not_hide_what_follows(
    source_db_each: SourceDatabase,
    mode: str,
    documents_dir: Path,
    storage_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """psql itself gets lost in such a dump; the archive must not."""
    if mode == "parallel":
        monkeypatch.setattr(parallel_dump, "LARGE_TABLE_BYTES", _EMPTY_BYTES)
    with psycopg.connect(source_db_each.url) as connection:
        connection.execute(
            'CREATE TABLE booking (begin integer, "end" integer, "case" text);'
            "INSERT INTO booking SELECT n, n + 1, ';' FROM generate_series(1, 99) n"
        )
        connection.execute('CREATE FUNCTION begin(begin integer, "end" integer) RETURNS integer RETURN begin - "end"')
        connection.execute(
            "CREATE FUNCTION bookings() RETURNS TABLE (begin integer, atomic text) LANGUAGE sql BEGIN ATOMIC "
            'SELECT booking.begin, booking."case" AS atomic FROM booking; SELECT 1 AS begin, \'END\' AS "end"; END'
        )

    result = backup(source_db_each.url, documents_dir, storage_dir, threads=4)

    assert [(table.name, table.rows) for table in result.manifest.tables] == [("booking", 99)]
    if mode == "single":
        text = without_keys(zcat(result.path, tmp_path / "out"))
        assert text.count(b"BEGIN ATOMIC") == 1
        assert b"\n99\t100\t;\n\\.\n" in text


def test_pieces_of_a_long_table_join_to_its_rows(source_db: SourceDatabase, documents_dir: Path, storage_dir: Path) -> None:
    """Rows longer than a piece, and pieces of many rows; every one of them is unpacked alone."""
    with psycopg.connect(source_db.url) as connection:
        connection.execute(
            "CREATE TABLE long (id integer, t text);"
            "INSERT INTO long SELECT n, repeat(md5(n::text) || E'\\t\\\\.', 600000) FROM generate_series(1, 2) n;"
            "INSERT INTO long SELECT n, repeat(md5(n::text), 100) FROM generate_series(3, 3000) n"
        )

    result = backup(source_db.url, documents_dir, storage_dir)

    (segment,) = [segment for segment in result.manifest.database.segments if segment.kind == "copy"]
    assert len(segment.pieces) > 3
    with open_archive(result.path, KEY) as reader:
        pieces = list(reader.segment_text(segment))
    for number, piece in enumerate(pieces[1:], start=1):
        assert pieces[number - 1].endswith(b"\n") == (number not in segment.continued)
        assert piece
    text = b"".join(pieces)
    assert text.count(b"\n") == segment.rows == 3000
    with psycopg.connect(source_db.url) as connection:
        with connection.cursor().copy("COPY long (id, t) TO STDOUT") as copy:
            assert b"".join(bytes(part) for part in copy) == text
