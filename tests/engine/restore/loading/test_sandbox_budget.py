"""What an untrusted dump may use up while it is loaded: memory of ours, disk and time of the server's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.errors import RestoreError, StalledError
from app.engine.restore.loading import sandbox_watch
from app.engine.restore.restore import restore
from app.engine.restore.swap import discard, undo
from tests.support.cluster import changes, cluster_facts
from tests.support.databases import admin_connection
from tests.support.hostile import archive_with_dump, dump_of
from tests.support.restoring import Live, pristine

MB = 1024**2

LARGE = {
    "one large row": "SELECT repeat('x', 400000000);",
    "many rows": "SELECT repeat('x', 10000) FROM generate_series(1, 100000);",
    "a large notice": "DO $$ BEGIN RAISE NOTICE '%', repeat('x', 400000000); END $$;",
    "a large error": "DO $$ BEGIN RAISE EXCEPTION '%', repeat('x', 400000000); END $$;",
    "returning": "INSERT INTO public.notes SELECT 1, 'x' FROM generate_series(1, 3) RETURNING repeat('x', 400000000);",
    "a rule's rows": "CREATE RULE r AS ON UPDATE TO public.notes DO ALSO SELECT repeat('x', 400000000);"
    " UPDATE public.notes SET id = 2;",
    "an error while rows are copied": "CREATE FUNCTION public.f() RETURNS int LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION"
    " '%', repeat('x', 400000000); END$$; CREATE TABLE public.t (id int, x int DEFAULT public.f());\n"
    "COPY public.t (id) FROM stdin;\n1\n\\.\n",
}
_CATCHES = """
CREATE FUNCTION public.f() RETURNS int LANGUAGE plpgsql AS $$
BEGIN LOOP BEGIN PERFORM pg_sleep(100); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END$$;
"""
ENDLESS = {
    "a sleep": "SET statement_timeout = 0; SELECT pg_sleep(1000);",
    "a sleep that no cancel ends": _CATCHES + "SELECT public.f();",
    "a sleep while rows are copied": _CATCHES + "CREATE TABLE public.t (id int, x int DEFAULT public.f());\n"
    "COPY public.t (id) FROM stdin;\n1\n\\.\n",
    "a sleep in ANALYZE": "CREATE FUNCTION public.f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN PERFORM CASE WHEN"
    " current_query() ILIKE '%analyze%' THEN pg_sleep(1000) END; RETURN $1; END$$;"
    " CREATE INDEX i ON public.notes (public.f(id));",
    "a lock": "DO $$ BEGIN LOOP NULL; END LOOP; END $$;",
}


@pytest.fixture(scope="module")
def live(pg18: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A live pair; after all tests the server is as it was."""
    with pristine(pg18, tmp_path_factory.mktemp("pristine"), b"CREATE TABLE notes (id integer)") as made:
        with made.live(tmp_path_factory.mktemp("live")) as live:
            before = cluster_facts(pg18)
            yield live
            assert changes(before, cluster_facts(pg18)) == {}


def archive(tmp_path: Path, text: str) -> Path:
    return archive_with_dump(tmp_path / "hostile.tar.gz", dump_of(text.encode()))


def peak() -> int:
    """Return the most memory that this process has held since `forget_peak`, in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


_QUICK = ("one large row", "a large notice", "a table")


def _heavy_but_for_some(table: dict[str, str]) -> list[object]:
    return [pytest.param(what, marks=[] if what in _QUICK else pytest.mark.heavy) for what in table]


@pytest.mark.parametrize("what", _heavy_but_for_some(LARGE))
def test_what_the_server_is_made_to_send_does_not_fill_our_memory(live: Live, tmp_path: Path, what: str) -> None:
    request = live.request(archive(tmp_path, LARGE[what]), scope="database")
    forget_peak()
    before = peak()

    try:
        restore(request)
    except RestoreError:
        assert live.remains() == []
    else:
        undo(live.state_dir, request.restore_id, live.source())
        discard(live.state_dir, request.restore_id, live.source())

    assert peak() - before < 400 * MB


@pytest.mark.parametrize("what", ENDLESS)
def test_a_statement_without_an_end_is_ended(live: Live, tmp_path: Path, what: str) -> None:
    request = live.request(archive(tmp_path, ENDLESS[what]), scope="database", stall_seconds=2.0)

    with pytest.raises((RestoreError, StalledError), match="without an end"):
        restore(request)

    assert live.remains() == []


def test_many_short_sleeps_are_ended_too(live: Live, tmp_path: Path) -> None:
    request = live.request(archive(tmp_path, "SELECT pg_sleep(1);\n" * 600), scope="database", stall_seconds=2.0)

    with pytest.raises(RestoreError, match="out of proportion to its text"):
        restore(request)

    assert live.remains() == []


def test_a_restore_that_is_cancelled_ends_code_that_catches_cancels(live: Live, tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def progress(phase: str, done: int, total: int | None) -> None:
        with admin_connection(live.server) as connection:
            query = "SELECT FROM pg_stat_activity WHERE usename LIKE 'restore\\_sandbox%' AND query LIKE '%public.f()%'"
            if connection.execute(query).fetchone() is not None:
                raise Enough

    with pytest.raises(Enough):
        restore(live.request(archive(tmp_path, ENDLESS["a sleep that no cancel ends"]), scope="database"), progress)

    assert live.remains() == []


FILLING = {
    "a table": "CREATE TABLE public.big AS SELECT repeat('x', 1000) FROM generate_series(1, 100000000);",
    "a large object": "DO $$ DECLARE o oid := lo_creat(-1); BEGIN FOR i IN 0..100000 LOOP"
    " PERFORM lo_put(o, i::bigint * 1000000, convert_to(repeat(md5(i::text), 31250), 'UTF8')); END LOOP; END $$;",
}


@pytest.mark.parametrize("what", _heavy_but_for_some(FILLING))
def test_a_database_out_of_proportion_is_ended(
    live: Live, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_watch, "SIZE_AT_LEAST", 32 * MB)
    request = live.request(archive(tmp_path, FILLING[what]), scope="database")

    with pytest.raises(RestoreError, match="out of proportion to its text"):
        restore(request)

    assert live.remains() == []


def test_files_for_sorting_are_limited_too(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the server itself where ours is a superuser, whatever the session sets."""
    monkeypatch.setattr(sandbox_watch, "SIZE_AT_LEAST", 16 * MB)
    sort = "SET temp_file_limit = -1; SET work_mem = '64kB';"
    filled = "SELECT count(*) FROM (SELECT repeat(md5(n::text), 30) AS t FROM generate_series(1, 2000000) n ORDER BY 1) x;"

    with pytest.raises(RestoreError, match="temp_file_limit"):
        restore(live.request(archive(tmp_path, sort), url=live.admin_url, scope="database"))
    with pytest.raises(RestoreError, match=r"temporary file size|out of proportion"):
        restore(live.request(archive(tmp_path, filled), url=live.admin_url, scope="database"))

    assert live.remains() == []


def test_a_rather_large_honest_dump_is_not_held_back(live: Live, tmp_path: Path) -> None:
    """Statements of many megabytes, and rows that are small beside what they take on disk."""
    text = "CREATE TABLE public.t (b boolean PRIMARY KEY, x text);\nINSERT INTO public.t VALUES (true, '%s');" % (
        "y" * 20 * MB
    )
    text += "\nCREATE TABLE public.tiny (b boolean);\nCOPY public.tiny (b) FROM stdin;\n" + "t\n" * 300_000 + "\\.\n"
    request = live.request(archive(tmp_path, text), scope="database")

    restore(request)

    with psycopg.connect(live.url) as connection:
        assert connection.execute("SELECT (SELECT length(x) FROM t), (SELECT count(*) FROM tiny)").fetchone() == (
            20 * MB,
            300_000,
        )
    undo(live.state_dir, request.restore_id, live.source())
    discard(live.state_dir, request.restore_id, live.source())
