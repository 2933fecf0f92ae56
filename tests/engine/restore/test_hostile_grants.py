"""What an untrusted archive leaves to others: nothing. Grants are undone, and nobody but the owner runs the owner's code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.restore.restore import restore
from app.engine.restore.swap import discard, undo
from tests.support.cluster import changes, cluster_facts
from tests.support.databases import admin_connection
from tests.support.hostile import archive_with_dump, dump_of
from tests.support.restoring import Live, pristine

_BY_A_BLOCK = """
CREATE SCHEMA own;
CREATE TABLE own.t (id integer, secret text);
CREATE VIEW own.v AS SELECT * FROM own.t;
CREATE SEQUENCE own.s;
CREATE DOMAIN own.d AS integer;
CREATE TYPE own.c AS (a integer);
CREATE FUNCTION own.f(integer, VARIADIC text[]) RETURNS integer LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE own.p() LANGUAGE sql AS 'SELECT 1';
CREATE AGGREGATE own.a(integer) (SFUNC = int4pl, STYPE = integer);
SELECT pg_catalog.lo_create('4711');
DO $$
DECLARE statement text;
BEGIN
    FOREACH statement IN ARRAY ARRAY[
        'GRANT ALL ON SCHEMA own TO {evil} WITH GRANT OPTION', 'GRANT ALL ON own.t TO {evil} WITH GRANT OPTION',
        'GRANT SELECT (secret), UPDATE (secret) ON own.t TO {evil}', 'GRANT INSERT (id) ON own.t TO PUBLIC',
        'GRANT SELECT (id) ON own.t TO CURRENT_USER', 'GRANT ALL ON own.v TO PUBLIC',
        'GRANT ALL ON SEQUENCE own.s TO {evil}',
        'GRANT ALL ON TYPE own.d TO {evil}', 'REVOKE ALL ON TYPE own.c FROM PUBLIC', 'GRANT ALL ON FUNCTION own.f TO {evil}',
        'REVOKE ALL ON FUNCTION own.f FROM PUBLIC', 'GRANT ALL ON PROCEDURE own.p TO {evil}',
        'GRANT ALL ON FUNCTION own.a TO {evil}', 'GRANT ALL ON LARGE OBJECT 4711 TO {evil}',
        'ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {evil}',
        'ALTER DEFAULT PRIVILEGES IN SCHEMA own GRANT ALL ON FUNCTIONS TO {evil}']
    LOOP EXECUTE statement; END LOOP;
END $$;
CREATE TABLE own.later (id integer);
CREATE SCHEMA with_content CREATE TABLE t (id integer) GRANT ALL ON t TO {evil} WITH GRANT OPTION;
"""
_DEFINER = """
CREATE FUNCTION public.become(text) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS
    $$BEGIN EXECUTE 'CREATE ROLE ' || quote_ident($1) || ' SUPERUSER'; RETURN 1;
    EXCEPTION WHEN insufficient_privilege THEN EXECUTE 'CREATE ROLE ' || quote_ident($1); RETURN 1; END$$;
CREATE FUNCTION public.step(integer, text) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS
    $$BEGIN RETURN public.become($2); END$$;
CREATE AGGREGATE public.all_of(text) (SFUNC = public.step, STYPE = integer, INITCOND = '0');
CREATE FUNCTION public.apart(integer, integer) RETURNS double precision LANGUAGE plpgsql SECURITY DEFINER IMMUTABLE AS
    $$BEGIN PERFORM public.become('by_range'); RETURN 1.0; EXCEPTION WHEN duplicate_object THEN RETURN 1.0; END$$;
CREATE TYPE public.spread AS RANGE (SUBTYPE = integer, SUBTYPE_DIFF = public.apart);
CREATE FUNCTION public.on_insert() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$BEGIN PERFORM public.become('by_trigger'); RETURN NEW; END$$;
CREATE FUNCTION public.is_fine(integer) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER IMMUTABLE AS
    $$BEGIN PERFORM public.become('by_domain'); RETURN true; END$$;
CREATE DOMAIN public.fine AS integer CHECK (public.is_fine(VALUE));
CREATE FUNCTION public.same(integer, integer) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS
    $$BEGIN PERFORM public.become('by_operator'); RETURN true; END$$;
CREATE OPERATOR public.=== (LEFTARG = integer, RIGHTARG = integer, FUNCTION = public.same);
CREATE VIEW public.shown AS SELECT public.become('by_view');
"""
ATTACKS = [
    "SELECT public.become('by_call')",
    "SELECT public.all_of('by_aggregate')",
    "SELECT public.step(1, 'by_step')",
    "CREATE TEMP TABLE t (r public.spread); CREATE INDEX ON t USING gist (r);"
    " INSERT INTO t SELECT public.spread(n, n + 5) FROM generate_series(1, 500) n",
    "CREATE TEMP TABLE t2 (i integer); CREATE TRIGGER t BEFORE INSERT ON t2 FOR EACH ROW"
    " EXECUTE FUNCTION public.on_insert(); INSERT INTO t2 VALUES (1)",
    "SELECT 1::public.fine",
    "SELECT 1 OPERATOR(public.===) 2",
    "SELECT * FROM public.shown",
]


@pytest.fixture(params=[16, 18], ids=["pg16", "pg18"])
def live(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Live]:
    """A live pair whose owner may make roles, as an untrusted archive needs where no superuser restores it."""
    server: EmbeddedPostgres = request.getfixturevalue(f"pg{request.param}")
    (tmp_path / "pristine").mkdir()
    (tmp_path / "live").mkdir()
    with pristine(server, tmp_path / "pristine", b"SELECT 1") as made, made.live(tmp_path / "live") as live:
        yield live


@pytest.fixture
def evil(live: Live) -> Iterator[str]:
    """A role that may only connect."""
    with admin_connection(live.server) as connection:
        connection.execute("CREATE ROLE evil_one LOGIN PASSWORD 'evil'")
        connection.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {live.name} TO evil_one")
        yield "evil_one"
        connection.execute(f"REVOKE ALL ON DATABASE {live.name} FROM evil_one")
        connection.execute("DROP ROLE evil_one")


@pytest.mark.parametrize("as_superuser", [True, False], ids=["superuser", "owner"])
def test_no_grant_of_the_archive_survives(live: Live, evil: str, tmp_path: Path, as_superuser: bool) -> None:
    before = cluster_facts(live.server, without=(live.name,))
    text = dump_of(_BY_A_BLOCK.replace("{evil}", evil).encode())
    url = live.admin_url if as_superuser else None
    request = live.request(archive_with_dump(tmp_path / "a.tar.gz", text), url=url, scope="database")

    result = restore(request)

    with admin_connection(live.server, live.name) as connection:
        granted = connection.execute(
            "SELECT c.relname::text FROM pg_class c, aclexplode(relacl) x WHERE c.oid >= 16384 AND x.grantee <> c.relowner"
            " UNION ALL SELECT attname FROM pg_attribute WHERE attrelid >= 16384 AND attacl IS NOT NULL AND attacl <> '{}'"
            " UNION ALL SELECT nspname FROM pg_namespace, aclexplode(nspacl) x WHERE oid >= 16384 AND x.grantee <> nspowner"
            " UNION ALL SELECT proname FROM pg_proc, aclexplode(proacl) WHERE oid >= 16384 AND grantee NOT IN (0, proowner)"
            " UNION ALL SELECT typname FROM pg_type, aclexplode(typacl) WHERE oid >= 16384 AND grantee NOT IN (0, typowner)"
            " UNION ALL SELECT oid::text FROM pg_largeobject_metadata, aclexplode(lomacl) x WHERE x.grantee <> lomowner"
            " UNION ALL SELECT 'default' FROM pg_default_acl"
        ).fetchall()
        assert granted == []
        owners = connection.execute(
            "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE oid >= 16384"
            " UNION SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE oid >= 16384"
            " UNION SELECT pg_get_userbyid(lomowner) FROM pg_largeobject_metadata"
        ).fetchall()
        assert owners == [(live.owner,)]
    with psycopg.connect(live.url, autocommit=True) as owner:
        owner.execute("INSERT INTO own.t VALUES (1, 'x'); SELECT own.f(1, 'x'), nextval('own.s'); CALL own.p()")
    with psycopg.connect(live.server.url(live.name, evil, "evil"), autocommit=True) as connection:
        for table in ("own.t", "own.v", "with_content.t", "own.later"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(f"SELECT * FROM {table}")
    assert any("own.t" in warning and "undone" in warning for warning in result.warnings)
    undo(live.state_dir, request.restore_id, live.source(url))
    discard(live.state_dir, request.restore_id, live.source(url))
    assert changes(before, cluster_facts(live.server, without=(live.name,))).keys() <= {"databases"}


def test_nobody_but_the_owner_runs_what_has_the_owners_rights(live: Live, evil: str, tmp_path: Path) -> None:
    request = live.request(archive_with_dump(tmp_path / "a.tar.gz", dump_of(_DEFINER.encode())), scope="database")

    result = restore(request)

    query = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'by\\_%'"
    with psycopg.connect(live.server.url(live.name, evil, "evil"), autocommit=True) as connection:
        for attack in ATTACKS:
            try:
                connection.execute(attack.encode())
            except psycopg.errors.InsufficientPrivilege:
                pass
            assert connection.execute(query).fetchone() == (0,), attack
    assert any("public.all_of" in text or "become" in text for text in result.warnings)
    with psycopg.connect(live.url, autocommit=True) as owner:
        assert owner.execute("SELECT become('by_owner')").fetchone() == (1,)
        owner.execute("DROP ROLE by_owner")
    discard(live.state_dir, request.restore_id, live.source())
