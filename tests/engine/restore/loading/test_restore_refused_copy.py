"""A table that the server refuses to fill: the error names the statement, whichever step of the filling it was."""

from __future__ import annotations

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.archive.reader import open_archive
from app.engine.errors import RestoreError
from app.engine.progress import Meter
from app.engine.restore.loading.load_ours import ArchiveLoader
from app.engine.source.postgres import connect
from tests.support.archives import KEY, Archive
from tests.support.databases import fresh_source

REFUSAL = """
CREATE SCHEMA refusal;
GRANT USAGE ON SCHEMA refusal TO PUBLIC;
CREATE FUNCTION refusal.refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'refused here'; END$$;
CREATE FUNCTION refusal.add() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN
    IF to_regclass('public.vehicles') IS NOT NULL AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'refusal') THEN
        CREATE {} EXECUTE FUNCTION refusal.refuse();
    END IF;
END$$;
CREATE EVENT TRIGGER refusal ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION refusal.add();
"""
TRIGGERS = {
    "the TRUNCATE": "TRIGGER refusal BEFORE TRUNCATE ON public.vehicles",
    "a row": "TRIGGER refusal BEFORE INSERT ON public.vehicles FOR EACH ROW",
    "the commit": "CONSTRAINT TRIGGER refusal AFTER INSERT ON public.vehicles DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
}


@pytest.mark.parametrize("step", TRIGGERS)
def test_what_is_refused_is_named(step: str, small_archive: Archive, pg18: EmbeddedPostgres) -> None:
    with fresh_source(pg18) as target, open_archive(small_archive.path, KEY) as reader:
        with psycopg.connect(target.admin_url) as connection:
            connection.execute(REFUSAL.replace("{}", TRIGGERS[step]).encode())
        loader = ArchiveLoader(reader, lambda: connect(target.url, "test"), 1, Meter(None))
        try:
            with pytest.raises(RestoreError, match=r"refused here .*\(COPY public\.vehicles \(id, name\) FROM stdin;\)"):
                loader.load()
        finally:
            loader.close()
