"""More tables than the server can lock at once: no restore ends in "out of shared memory"."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.errors import DumpError, RestoreBlocked
from app.engine.restore.preview.preview import preview
from app.engine.restore.restore import restore
from tests.support.archives import backup
from tests.support.databases import admin_connection, fresh_source
from tests.support.dumping import dumped
from tests.support.hostile import plain_tar
from tests.support.restoring import Live, drop_all_like

TABLES = 300
# 10 × (12 + 1 + 0 + 1 + 1) = about 150 locks, and a little that the server's memory has to spare.
FEW_LOCKS = {
    "max_locks_per_transaction": "10",
    "max_connections": "12",
    "max_wal_senders": "0",
    "max_worker_processes": "1",
    "autovacuum": "off",
}


@pytest.fixture
def live(tmp_path: Path, documents_dir: Path, request: pytest.FixtureRequest) -> Iterator[Live]:
    """A database of many tables with keys, on a server of its own."""
    socket = Path("/tmp") / f"s{uuid4().hex[:8]}"
    with EmbeddedPostgres(request.param, tmp_path / "server", durable=False, socket_dir=socket) as server:
        with fresh_source(server) as source:
            with psycopg.connect(source.url, autocommit=True) as connection:
                for start in range(0, TABLES, 100):
                    names = range(start, start + 100)
                    connection.execute(
                        "".join(f"CREATE TABLE t{n} (id serial PRIMARY KEY, t text);" for n in names).encode()
                    )
                connection.execute("INSERT INTO t7 (t) VALUES ('seven')")
            try:
                yield Live(server, source.name, source.user, source.url, source.admin_url, documents_dir, tmp_path / "state")
            finally:
                drop_all_like(server, source.name)
    shutil.rmtree(socket, ignore_errors=True)


def few_locks(live: Live) -> None:
    live.server.stop()
    live.server.settings |= FEW_LOCKS
    live.server.start()


@pytest.mark.parametrize("live", [pytest.param(16, marks=pytest.mark.heavy), 18], indirect=True)
def test_few_locks_are_enough_beside_the_live_database(live: Live, tmp_path: Path, storage_dir: Path) -> None:
    archive = backup(live.url, live.documents, storage_dir).path
    plain = plain_tar(tmp_path / "plain.tar.gz", dumped(live.server.bin_dir, live.url), live.documents)
    before = live.state().dump
    few_locks(live)
    with pytest.raises(DumpError, match=r"can't lock all tables at once .* max_locks_per_transaction"):
        backup(live.url, live.documents, storage_dir)
    for of, url in ((plain, live.url), (archive, live.admin_url)):
        restore(live.request(of, url, scope="database"))
    with admin_connection(live.server) as connection:
        connection.execute(f"ALTER ROLE {live.owner} NOCREATEDB".encode())
    (blocker,) = preview(live.request(archive)).blockers
    assert "max_locks_per_transaction" in blocker
    with pytest.raises(RestoreBlocked):
        restore(live.request(archive))
    live.server.stop()
    live.server.settings |= {"max_locks_per_transaction": "1000"}
    live.server.start()
    assert restore(live.request(archive)).strategy == "in_place"
    assert live.state().dump == before
