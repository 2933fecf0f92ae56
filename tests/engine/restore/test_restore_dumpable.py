"""A restore after which no backup would work is not completed: whoever made the archive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.errors import RestoreError
from app.engine.restore.restore import restore
from tests.support.archives import backup
from tests.support.databases import admin_connection
from tests.support.dumping import dumped
from tests.support.hostile import archive_with_dump, dump_of
from tests.support.restoring import Live, pristine

FORCED = """
CREATE TABLE public.secret (id integer);
CREATE POLICY p ON public.secret USING (id > 0);
ALTER TABLE public.secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.secret FORCE ROW LEVEL SECURITY;
"""
# Two values of 300 MB, which as text fit in no line of COPY.
TOO_LONG = """
CREATE TABLE public.long (a bytea, b bytea);
INSERT INTO public.long (a) SELECT repeat('x', 300000000)::bytea;
UPDATE public.long SET b = repeat('y', 300000000)::bytea;
"""


@pytest.fixture
def live(pg18: EmbeddedPostgres, tmp_path: Path) -> Iterator[Live]:
    (tmp_path / "pristine").mkdir()
    (tmp_path / "live").mkdir()
    with pristine(pg18, tmp_path / "pristine", b"CREATE TABLE t (id integer)") as made, made.live(tmp_path / "live") as live:
        yield live


def stopped(live: Live, archive: Path, **more: object) -> str:
    before, remains = live.state(), live.remains()
    with pytest.raises(RestoreError, match="No backup of the restored database would work") as found:
        restore(live.request(archive, scope="database", **more))
    assert live.remains() == remains
    assert live.state() == before
    return str(found.value)


@pytest.mark.parametrize("trusted", [False, True], ids=["untrusted", "trusted"])
def test_forced_row_level_security_is_found_before_the_swap(live: Live, tmp_path: Path, trusted: bool) -> None:
    archive = archive_with_dump(tmp_path / "a.tar.gz", dump_of(FORCED.encode()))

    message = stopped(live, archive, trusted=trusted)

    assert "public.secret" in message
    assert "BYPASSRLS" in message


def test_a_superuser_restores_it_and_its_next_backup_works(live: Live, tmp_path: Path) -> None:
    archive = archive_with_dump(tmp_path / "a.tar.gz", dump_of(FORCED.encode()))

    restore(live.request(archive, url=live.admin_url, scope="database"))

    storage = tmp_path / "backups"
    storage.mkdir(mode=0o700)
    made = backup(live.admin_url, live.documents, storage)
    assert b"FORCE ROW LEVEL SECURITY" in dumped(live.server.bin_dir, live.admin_url)
    # One of ours, made by a superuser, and restored by a role that could not back it up again.
    stopped(live, made.path)


@pytest.mark.parametrize("rights", ["NOCREATEDB", "CREATEDB"])
def test_one_of_ours_is_looked_at_as_well(live: Live, tmp_path: Path, rights: str) -> None:
    """In place, too."""
    storage = tmp_path / "backups"
    storage.mkdir(mode=0o700)
    with psycopg.connect(live.url) as connection:
        connection.execute(FORCED)
    made = backup(live.admin_url, live.documents, storage)
    with psycopg.connect(live.url) as connection:
        connection.execute("DROP TABLE secret")
    with admin_connection(live.server) as connection:
        connection.execute(f"ALTER ROLE {live.owner} {rights}")

    assert "public.secret" in stopped(live, made.path)


@pytest.mark.heavy
def test_a_row_that_no_backup_can_hold_is_found(live: Live, tmp_path: Path) -> None:
    stopped(live, archive_with_dump(tmp_path / "a.tar.gz", dump_of(TOO_LONG.encode())))
