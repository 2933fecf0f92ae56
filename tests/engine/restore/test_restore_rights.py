"""What only a superuser may create: said at the backup and in the preview, never found out in the middle of a restore."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.errors import EngineError, RestoreBlocked, RestoreError
from app.engine.proof.restore_test import RestoreTest, verify_by_restoring
from app.engine.restore.preview.preview import preview
from app.engine.restore.restore import restore
from app.engine.restore.swap import discard, undo
from tests.support.archives import KEY, backup
from tests.support.databases import admin_connection, fresh_source
from tests.support.restoring import Live, drop_all_like

BASE_TYPE = """
CREATE TYPE base;
CREATE FUNCTION base_in(cstring) RETURNS base LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION base_out(base) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE base (INPUT = base_in, OUTPUT = base_out, LIKE = text);
"""


@dataclass(frozen=True)
class Kind:
    """Something that a superuser has made, in what words it is named, and what a restore by the app's role does then:
    "left out", "inside" the live database, or "refused"."""

    name: str
    script: str
    said: str
    outcome: str = "inside"


KINDS = [
    Kind(
        "event trigger",
        "CREATE FUNCTION seen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; ALTER FUNCTION seen() OWNER TO {app};"
        "CREATE EVENT TRIGGER watcher ON ddl_command_end EXECUTE FUNCTION seen(); COMMENT ON EVENT TRIGGER watcher IS 'x';"
        "ALTER EVENT TRIGGER watcher DISABLE",
        "event trigger watcher",
        "left out",
    ),
    Kind("publication of all tables", "CREATE PUBLICATION everything FOR ALL TABLES", "publication everything", "left out"),
    Kind("publication of a schema", "CREATE PUBLICATION whole FOR TABLES IN SCHEMA public", "publication whole", "left out"),
    Kind("cast", "CREATE CAST (text AS point) WITH INOUT", "cast (pg_catalog.text AS pg_catalog.point)"),
    Kind(
        "cast without function",
        "CREATE TYPE app_kind AS ENUM ('a'); ALTER TYPE app_kind OWNER TO {app};"
        "CREATE TYPE one AS (a int); ALTER TYPE one OWNER TO {app}; CREATE CAST (one AS app_kind) WITH INOUT;"
        "CREATE CAST (bit AS point) WITH INOUT",
        "cast (bit AS pg_catalog.point)",
    ),
    Kind(
        "operator class",
        "CREATE OPERATOR CLASS backwards FOR TYPE int4 USING btree AS OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =,"
        " OPERATOR 4 <=, OPERATOR 5 <, FUNCTION 1 btint4cmp(int, int); CREATE INDEX by_id ON t (id backwards)",
        "operator class public.backwards USING btree",
    ),
    Kind("operator family", "CREATE OPERATOR FAMILY family USING btree", "operator family public.family USING btree"),
    Kind("base type", BASE_TYPE + "ALTER TABLE t ADD COLUMN odd base", "type public.base"),
    Kind(
        "base type of the app's role",
        BASE_TYPE + "ALTER TABLE t ADD COLUMN odd base; ALTER TYPE base OWNER TO {app}",
        "type public.base",
        "refused",
    ),
    Kind(
        "internal function",
        "CREATE FUNCTION fast(int, int) RETURNS int LANGUAGE internal IMMUTABLE STRICT AS 'int4pl';"
        "GRANT EXECUTE ON FUNCTION fast TO {app}; COMMENT ON FUNCTION fast IS 'fast'",
        "function public.fast(integer,integer)",
    ),
    Kind(
        "leakproof function of the app's role",
        "CREATE FUNCTION tight(int) RETURNS int LANGUAGE sql IMMUTABLE LEAKPROOF AS 'SELECT 1';"
        "ALTER FUNCTION tight OWNER TO {app}",
        "function public.tight(integer)",
        "refused",
    ),
    Kind(
        "function with a superuser's parameter",
        "CREATE FUNCTION quiet() RETURNS int LANGUAGE sql SET log_statement = 'none' AS 'SELECT 1'",
        "function public.quiet()",
    ),
    Kind(
        "aggregate over internal state",
        "CREATE AGGREGATE mean(numeric) (SFUNC = numeric_avg_accum, STYPE = internal, FINALFUNC = numeric_avg)",
        "aggregate public.mean(numeric)",
    ),
    Kind(
        "foreign-data wrapper",
        "CREATE FOREIGN DATA WRAPPER far; CREATE SERVER there FOREIGN DATA WRAPPER far;"
        "GRANT USAGE ON FOREIGN SERVER there TO {app};"
        "CREATE USER MAPPING FOR {app} SERVER there OPTIONS (password 'canary secret')",
        "foreign-data wrapper far",
    ),
    Kind(
        "text search template",
        "CREATE TEXT SEARCH TEMPLATE simple_too (LEXIZE = dsimple_lexize, INIT = dsimple_init)",
        "text search template public.simple_too",
    ),
    Kind(
        "text search parser",
        "CREATE TEXT SEARCH PARSER words (START = prsd_start, GETTOKEN = prsd_nexttoken, END = prsd_end,"
        " LEXTYPES = prsd_lextype)",
        "text search parser public.words",
    ),
    Kind("access method", "CREATE ACCESS METHOD pile TYPE TABLE HANDLER heap_tableam_handler", "access method pile"),
    Kind(
        "transform",
        "CREATE TRANSFORM FOR int LANGUAGE sql (FROM SQL WITH FUNCTION prsd_lextype(internal),"
        " TO SQL WITH FUNCTION int4recv(internal))",
        "transform for integer language sql",
    ),
    Kind(
        "language",
        "CREATE FUNCTION handle() RETURNS language_handler LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler';"
        "CREATE LANGUAGE own HANDLER handle",
        "language own",
    ),
]


@contextmanager
def living(server: EmbeddedPostgres, folder: Path, documents: Path) -> Iterator[Live]:
    """Yield a live database with one table of the app's role."""
    with fresh_source(server) as source:
        with psycopg.connect(source.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE t (id int PRIMARY KEY, name text)")
            connection.execute("INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 50) n")
        try:
            yield Live(server, source.name, source.user, source.url, source.admin_url, documents, folder / "state")
        finally:
            drop_all_like(server, source.name)


def by_superuser(live: Live, script: str) -> None:
    with psycopg.connect(live.admin_url, autocommit=True) as connection:
        connection.execute(script.replace("{app}", live.owner).encode())


def drop_feed(live: Live) -> None:
    for statement in ("ALTER SUBSCRIPTION feed SET (slot_name = NONE)", "DROP SUBSCRIPTION feed"):
        by_superuser(live, statement)


def lose_rows(live: Live) -> None:
    with psycopg.connect(live.url, autocommit=True) as connection:
        connection.execute("DELETE FROM t WHERE id > 7")


def rows(live: Live) -> int:
    with psycopg.connect(live.url, autocommit=True) as connection:
        row = connection.execute("SELECT count(*) FROM t").fetchone()
        return int(row[0]) if row else 0


@pytest.mark.heavy
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name.replace(" ", "-"))
def test_a_kind(pg: EmbeddedPostgres, kind: Kind, tmp_path: Path, documents_dir: Path, storage_dir: Path) -> None:
    check(pg, [kind], kind.outcome, tmp_path, storage_dir)


@pytest.mark.parametrize("outcome", ["left out", "inside", "refused"])
def test_all_kinds(pg: EmbeddedPostgres, outcome: str, tmp_path: Path, documents_dir: Path, storage_dir: Path) -> None:
    check(pg, [kind for kind in KINDS if kind.outcome == outcome], outcome, tmp_path, storage_dir)


def check(server: EmbeddedPostgres, kinds: list[Kind], outcome: str, folder: Path, storage: Path) -> None:
    """Make what only a superuser can, back it up, and restore it by the app's role and by a superuser."""
    with living(server, folder, folder / "documents") as live:
        for kind in kinds:
            by_superuser(live, kind.script)
        made = backup(live.url, live.documents, storage)
        said = [kind.said for kind in kinds]
        objects = made.manifest.database.facts["needs"]["objects"]
        assert set(said) <= {f"{entry['kind']} {entry['name']}" for entry in objects}
        assert is_said(said, [text for text in made.warnings if "Only a superuser can restore" in text]), made.warnings
        before = live.state()
        lose_rows(live)
        looked = preview(live.request(made.path))
        if outcome == "refused":
            assert is_said(said, looked.blockers), looked.blockers
            changed = live.state()
            with pytest.raises(RestoreBlocked, match=r"superuser in \[source\]"):
                restore(live.request(made.path))
            assert (live.state(), live.remains()) == (changed, [])
        else:
            assert looked.blockers == []
            assert looked.strategy == ("swap" if outcome == "left out" else "in_place")
            assert is_said(said, looked.warnings), looked.warnings
            result = restore(live.request(made.path))
            assert (rows(live), result.strategy) == (50, looked.strategy)
            assert not [text for text in result.warnings if "canary secret" in text]
            if outcome == "inside":
                assert live.state() == before
        # A superuser brings back all of it, beside the live database.
        lose_rows(live)
        looked = preview(live.request(made.path, live.admin_url))
        assert (looked.blockers, looked.strategy) == ([], "swap")
        result = restore(live.request(made.path, live.admin_url))
        assert result.warnings == []
        assert live.state() == before


def is_said(names: list[str], texts: list[str]) -> bool:
    """Return whether the texts name all of these, or the first of them and that there are more."""
    text = " ".join(texts)
    return all(name in text for name in names) or (" more" in text and any(name in text for name in names))


def test_without_it_in_the_live_database_it_is_refused(
    pg: EmbeddedPostgres, tmp_path: Path, documents_dir: Path, storage_dir: Path
) -> None:
    with living(pg, tmp_path, documents_dir) as live:
        by_superuser(live, BASE_TYPE + "ALTER TABLE t ADD COLUMN odd base")
        archive = backup(live.url, live.documents, storage_dir).path
        with pytest.raises(EngineError, match=r"only a superuser may restore .*type public.base"):
            verify_by_restoring(RestoreTest(archive, live.source(), KEY, uuid4()))
        assert verify_by_restoring(RestoreTest(archive, live.source(live.admin_url), KEY, uuid4())).problems == []
        by_superuser(live, "DROP TYPE base CASCADE")
        before = live.state()
        with pytest.raises(RestoreBlocked, match=r"Only a superuser may create .*type public.base"):
            restore(live.request(archive))
        assert (live.state(), live.remains()) == (before, [])


def test_a_tablespace_without_the_right_is_left_with_a_warning(
    pg: EmbeddedPostgres, tmp_path: Path, documents_dir: Path, storage_dir: Path
) -> None:
    space = f"closed_{uuid4().hex[:8]}"
    with admin_connection(pg) as connection:
        connection.execute("SET allow_in_place_tablespaces = on")
        connection.execute(f"CREATE TABLESPACE {space} LOCATION ''".encode())
    try:
        with living(pg, tmp_path, documents_dir) as live:
            by_superuser(live, f"ALTER TABLE t SET TABLESPACE {space}; CREATE INDEX by_name ON t (name) TABLESPACE {space}")
            made = backup(live.url, live.documents, storage_dir)
            assert [text for text in made.warnings if f"CREATE ON TABLESPACE {space}" in text]
            for url in (live.url, live.admin_url):
                lose_rows(live)
                assert [text for text in preview(live.request(made.path, url)).warnings if space in text]
                result = restore(live.request(made.path, url))
                assert len([text for text in result.warnings if space in text]) == 1
                assert rows(live) == 50
            by_superuser(live, f"ALTER ROLE {live.owner} NOCREATEDB")
            lose_rows(live)
            result = restore(live.request(made.path))
            assert (rows(live), result.strategy) == (50, "in_place")
            assert len([text for text in result.warnings if space in text]) == 1
    finally:
        with admin_connection(pg) as connection:
            connection.execute(f"DROP TABLESPACE {space}".encode())


def test_owners_that_our_role_can_not_become(
    pg: EmbeddedPostgres, tmp_path: Path, documents_dir: Path, storage_dir: Path
) -> None:
    other = f"other_{uuid4().hex[:8]}"
    with living(pg, tmp_path, documents_dir) as live:
        by_superuser(
            live,
            f"CREATE ROLE {other}; CREATE TABLE theirs (id int PRIMARY KEY); ALTER TABLE theirs OWNER TO {other};"
            f"INSERT INTO theirs VALUES (1); GRANT SELECT ON theirs TO {{app}}; GRANT CREATE ON SCHEMA public TO {other}",
        )
        try:
            made = backup(live.url, live.documents, storage_dir)
            assert [text for text in made.warnings if other in text]
            before = live.state()
            assert [text for text in preview(live.request(made.path)).warnings if f"can't become {other}" in text]
            restore(live.request(made.path))
            assert live.state() != before  # it is the app's role's now
            by_superuser(live, f"GRANT {other} TO {{app}}")
            assert [text for text in preview(live.request(made.path)).warnings if other in text] == []
            restore(live.request(made.path))
            assert live.state() == before
            by_superuser(live, f"ALTER ROLE {live.owner} NOCREATEDB")
            (blocker,) = preview(live.request(made.path)).blockers
            assert f"not table public.theirs of {other}" in blocker
        finally:
            drop_all_like(pg, live.name)
            with admin_connection(pg) as connection:
                connection.execute(f"DROP ROLE {other}".encode())


def test_policies_for_a_role_that_is_gone_and_rows_of_an_extension_s_table(
    pg: EmbeddedPostgres, tmp_path: Path, documents_dir: Path, storage_dir: Path
) -> None:
    other = f"reader_{uuid4().hex[:8]}"
    with living(pg, tmp_path, documents_dir) as live:
        by_superuser(live, f"CREATE ROLE {other}; CREATE POLICY theirs ON t TO {other} USING (true)")
        archive = backup(live.url, live.documents, storage_dir).path
        by_superuser(live, f"DROP POLICY theirs ON t; DROP ROLE {other}")
        assert [text for text in preview(live.request(archive)).blockers if f"do not exist here: {other}" in text]
        with pytest.raises(RestoreBlocked):
            restore(live.request(archive))
        by_superuser(
            live,
            "CREATE EXTENSION vector; CREATE TABLE config (id int); GRANT SELECT ON config TO {app};"
            "ALTER EXTENSION vector ADD TABLE config; UPDATE pg_extension SET extconfig = ARRAY['config'::regclass::oid],"
            " extcondition = ARRAY[''] WHERE extname = 'vector'; INSERT INTO config VALUES (1)",
        )
        made = backup(live.url, live.documents, storage_dir)
        assert [text for text in made.warnings if "public.config of the extension vector" in text]
        assert [
            text for text in preview(live.request(made.path)).blockers if "public.config of the extension vector" in text
        ]


def test_a_security_label_without_its_provider_is_left_out(
    pg: EmbeddedPostgres, tmp_path: Path, documents_dir: Path, storage_dir: Path
) -> None:
    with living(pg, tmp_path, documents_dir) as live:
        by_superuser(
            live,
            "SET allow_system_table_mods = on; INSERT INTO pg_seclabel VALUES ('t'::regclass, 'pg_class'::regclass, 0,"
            " 'elsewhere', 'secret')",
        )
        archive = backup(live.url, live.documents, storage_dir).path
        assert [text for text in preview(live.request(archive)).warnings if "elsewhere" in text]
        lose_rows(live)
        result = restore(live.request(archive))
        assert rows(live) == 50
        assert [text for text in result.warnings if 'security label provider "elsewhere" is not loaded' in text]


@pytest.mark.parametrize("version", [16, 18])
def test_subscriptions_and_slots(version: int, tmp_path: Path, documents_dir: Path, storage_dir: Path) -> None:
    settings = {"wal_level": "logical"}
    socket = Path("/tmp") / f"s{uuid4().hex[:8]}"
    with EmbeddedPostgres(version, tmp_path / "server", durable=False, socket_dir=socket, settings=settings) as server:
        with living(server, tmp_path, documents_dir) as live:
            by_superuser(
                live,
                "CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 port=1 dbname=x password=canary' PUBLICATION p"
                " WITH (connect = false)",
            )
            with psycopg.connect(live.admin_url, autocommit=True) as connection:
                connection.execute("SELECT pg_create_logical_replication_slot('reader', 'pgoutput')")
            archive = backup(live.admin_url, live.documents, storage_dir).path
            # By the app's role: it says what becomes of both, and who has to act.
            looked = preview(live.request(archive))
            (said,) = [text for text in looked.warnings if "the subscription feed" in text]
            assert "can't drop the old database afterwards" in said
            assert [text for text in looked.warnings if "slot reader" in text]
            request = live.request(archive)
            restore(request)
            with pytest.raises(RestoreError, match="subscription feed: have a superuser"):
                discard(request.state_dir, request.restore_id, live.source())
            discard(request.state_dir, request.restore_id, live.source(live.admin_url))
            assert live.remains() == []
            # By a superuser: the restored one is disabled, an undo exchanges both, and the rest goes.
            request = live.request(archive, live.admin_url)
            result = restore(request)
            assert [text for text in result.warnings if "restored subscription feed is disabled" in text]
            undo(request.state_dir, request.restore_id, live.source(live.admin_url))
            discard(request.state_dir, request.restore_id, live.source(live.admin_url))
            request = live.request(archive, live.admin_url, scope="database")
            restore(request)
            discard(request.state_dir, request.restore_id, live.source(live.admin_url))
            with admin_connection(server) as connection:
                found = connection.execute(
                    "SELECT datname, subenabled FROM pg_subscription JOIN pg_database d ON d.oid = subdbid"
                ).fetchall()
                assert found == [(live.name, False)]
            assert verify_by_restoring(RestoreTest(archive, live.source(live.admin_url), KEY, uuid4())).problems == []
            drop_feed(live)
    shutil.rmtree(socket, ignore_errors=True)
