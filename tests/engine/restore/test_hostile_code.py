"""Code that an untrusted archive brings runs with no more rights than the app's own, during the restore and after."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.proof.restore_test import RestoreTest, verify_by_restoring
from app.engine.restore.preview.preview import preview
from app.engine.restore.restore import restore
from app.engine.restore.swap import undo
from tests.support.archives import KEY, backup
from tests.support.databases import admin_connection
from tests.support.hostile import archive_with_dump, dump_of
from tests.support.restoring import Live, pristine

HOSTILE = r"""
CREATE FUNCTION public.attack() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        EXECUTE 'COPY (SELECT current_user) TO ''{marker}/by-' || current_user || '-' || session_user || '''';
    EXCEPTION WHEN insufficient_privilege THEN NULL; END;
    BEGIN
        EXECUTE 'COPY (SELECT 1) TO PROGRAM ''touch {marker}/program''';
    EXCEPTION WHEN insufficient_privilege THEN NULL; END;
    BEGIN
        EXECUTE 'ALTER ROLE {owner} SUPERUSER';
    EXCEPTION WHEN insufficient_privilege THEN NULL; END;
    RETURN true;
END $$;
CREATE FUNCTION public.attack_definer() RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS
    'BEGIN RETURN public.attack(); END';
CREATE FUNCTION public.attack_quiet(i integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
    'BEGIN PERFORM public.attack(); RETURN i; END';
CREATE FUNCTION public.attack_trigger() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN PERFORM public.attack(), public.attack_definer(); RETURN NEW; END';
CREATE TABLE public.fired (who text);
CREATE TABLE public.vehicles (
    id integer PRIMARY KEY, wrong boolean DEFAULT public.attack(), d boolean DEFAULT public.attack_definer(),
    n integer CHECK (public.attack_quiet(n) = n), g integer GENERATED ALWAYS AS (public.attack_quiet(id)) STORED
);
INSERT INTO public.vehicles (id, n) VALUES (1, 1);
CREATE INDEX by_attack ON public.vehicles (public.attack_quiet(n));
CREATE INDEX while_planning ON public.vehicles (id) WHERE public.attack_quiet(1) = 1;
CREATE INDEX while_planning_too ON public.vehicles ((public.attack_quiet(2) + id));
CREATE STATISTICS public.while_planning ON (public.attack_quiet(3)), id FROM public.vehicles;
ALTER TABLE public.vehicles ADD CHECK (public.attack_quiet(4) = 4);
CREATE STATISTICS public.stats ON (public.attack_quiet(id)), n FROM public.vehicles;
CREATE TRIGGER t BEFORE INSERT OR UPDATE ON public.vehicles FOR EACH ROW EXECUTE FUNCTION public.attack_trigger();
CREATE POLICY p ON public.vehicles USING (public.attack());
ALTER TABLE public.vehicles ENABLE ROW LEVEL SECURITY;
CREATE VIEW public.seen AS SELECT public.attack() AS a, * FROM public.vehicles;
CREATE MATERIALIZED VIEW public.filled AS SELECT public.attack_quiet(id) AS a FROM public.vehicles;
CREATE RULE r AS ON UPDATE TO public.vehicles DO ALSO SELECT public.attack();
CREATE FUNCTION public.pg_database_size(oid) RETURNS bigint LANGUAGE sql AS 'SELECT public.attack(); SELECT 1::bigint';
CREATE FUNCTION public.count() RETURNS bigint LANGUAGE sql AS 'SELECT public.attack(); SELECT 1::bigint';
CREATE FUNCTION public.equal(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT public.attack()';
CREATE OPERATOR public.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = public.equal);
CREATE FUNCTION public.to_text(name) RETURNS text LANGUAGE sql AS 'SELECT public.attack(); SELECT ''x''::text';
CREATE DOMAIN public.regrole AS text CHECK (public.attack());
CREATE TABLE public.pg_class (relname text DEFAULT public.attack()::text);
CREATE VIEW public.pg_tables AS SELECT public.attack();
ALTER ROLE CURRENT_USER SET search_path = public, pg_catalog;
"""


@pytest.fixture
def marker() -> Iterator[Path]:
    """A folder where the server could write and where nothing must be."""
    folder = Path(tempfile.mkdtemp(prefix="hostile-"))
    folder.chmod(0o777)
    yield folder
    found = list(folder.iterdir())
    shutil.rmtree(folder)
    assert found == []


@pytest.fixture
def live(pg18: EmbeddedPostgres, tmp_path: Path) -> Iterator[Live]:
    """A live pair whose owner may do nothing but own it."""
    (tmp_path / "pristine").mkdir()
    (tmp_path / "live").mkdir()
    with pristine(pg18, tmp_path / "pristine", b"SELECT 1", rights="") as made, made.live(tmp_path / "live") as live:
        yield live


@pytest.fixture
def hostile(live: Live, marker: Path, tmp_path: Path) -> Path:
    text = HOSTILE.replace("{marker}", str(marker)).replace("{owner}", live.owner)
    return archive_with_dump(tmp_path / "hostile.tar.gz", dump_of(text.encode()))


def rights(live: Live) -> list[tuple[object, ...]]:
    with admin_connection(live.server) as connection:
        return connection.execute(
            "SELECT rolsuper, rolcreaterole, rolcreatedb, ARRAY(SELECT roleid FROM pg_auth_members WHERE member = r.oid)"
            " FROM pg_roles r WHERE rolname = %s",
            [live.owner],
        ).fetchall()


def test_a_superusers_restore_runs_none_of_it_as_the_superuser(live: Live, hostile: Path, marker: Path) -> None:
    """From the preview to the next backup, its verification and the undo; the marker folder stays empty."""
    before = rights(live)
    assert before == [(False, False, False, [])]
    request = live.request(hostile, url=live.admin_url)

    looked = preview(request, exact=True)
    assert looked.blockers == []
    assert any("attack_trigger" in line for line in looked.code)
    restore(request)
    preview(request, exact=True)
    assert list(marker.iterdir()) == [], "during the restore"

    with psycopg.connect(live.url, autocommit=True) as app:
        app.execute("INSERT INTO vehicles (id, n) VALUES (2, 2)")
        app.execute("UPDATE vehicles SET n = 3")
        assert app.execute("SELECT count(*) FROM seen").fetchone() == (2,)
        app.execute("REFRESH MATERIALIZED VIEW filled")
    assert list(marker.iterdir()) == [], "by the app"
    undo(live.state_dir, request.restore_id, live.source(live.admin_url))
    undo(live.state_dir, request.restore_id, live.source(live.admin_url))
    assert list(marker.iterdir()) == [], "while undoing"
    storage = live.state_dir.parent / "backups"
    storage.mkdir()
    made = backup(live.admin_url, live.documents, storage)
    assert list(marker.iterdir()) == [], "during the next backup"
    assert verify_by_restoring(RestoreTest(made.path, live.source(live.admin_url), KEY, request.restore_id)).problems == []
    assert list(marker.iterdir()) == [], "during the test restore"
    restore(live.request(made.path, url=live.admin_url, scope="database"))
    assert list(marker.iterdir()) == [], "during the restore of that backup"

    assert rights(live) == before
    with admin_connection(live.server, live.name) as connection:
        owners = connection.execute(
            "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE oid >= 16384"
            " UNION SELECT DISTINCT pg_get_userbyid(proowner) FROM pg_proc WHERE oid >= 16384"
        ).fetchall()
    assert owners == [(live.owner,)]
