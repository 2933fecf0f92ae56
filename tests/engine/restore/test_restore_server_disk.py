"""A restore on a server whose disk is small: refused if it can't fit, and ended before the disk is full."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from app.demo.postgres import unprivileged_user
from app.demo.servers import EmbeddedPostgres
from app.engine.errors import RestoreBlocked, RestoreError
from app.engine.restore.preview import preview as restore_preview
from app.engine.restore.preview.preview import preview
from app.engine.restore.restore import restore
from app.engine.source import server_disk
from app.engine.source.postgres import connect
from tests.support.archives import backup
from tests.support.databases import fresh_source
from tests.support.restoring import Live, drop_all_like

DISK_MB = 400


@pytest.fixture
def live(tmp_path: Path, documents_dir: Path) -> Iterator[Live]:
    """A database of about 40 MB on a server whose disk is a file system of its own. Root only."""
    disk, socket = tmp_path / "disk", Path("/tmp") / f"s{uuid4().hex[:8]}"
    disk.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0755", "none", disk]
    made = subprocess.run(mount, capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {made.stderr.strip()}")
    os.chown(disk, *unprivileged_user())
    settings = {"max_wal_size": "64MB", "wal_level": "minimal", "max_wal_senders": "0"}
    try:
        with (
            EmbeddedPostgres(18, disk / "server", durable=False, socket_dir=socket, settings=settings) as server,
            fresh_source(server) as source,
        ):
            with psycopg.connect(source.url, autocommit=True) as connection:
                connection.execute("CREATE TABLE t (id int, t text)")
                connection.execute("INSERT INTO t SELECT n, repeat(md5(n::text), 30) FROM generate_series(1, 40000) n")
            try:
                yield Live(server, source.name, source.user, source.url, source.admin_url, documents_dir, tmp_path / "state")
            finally:
                drop_all_like(server, source.name)
    finally:
        subprocess.run(["umount", disk], check=True)
        shutil.rmtree(socket, ignore_errors=True)


def rows(live: Live) -> int:
    with psycopg.connect(live.url) as connection:
        row = connection.execute("SELECT count(*) FROM t").fetchone()
        return int(row[0]) if row else 0


def test_the_disk_is_asked_and_watched(live: Live, storage_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = backup(live.url, live.documents, storage_dir).path
    with connect(live.url, "test") as connection:
        disk = server_disk.find(connection)
        assert disk is not None
        assert disk.folders[0].is_relative_to(live.server.cluster_dir)
        free = disk.free_bytes()
    assert free < DISK_MB * 1024 * 1024
    # It does not fit beside the reserve: refused before anything is made.
    too_much = live.request(archive, disk_reserve=free - 10_000_000)
    (blocker,) = preview(too_much).blockers
    assert "The database needs about" in blocker
    with pytest.raises(RestoreBlocked):
        restore(too_much)
    # It takes more than was expected: ended while the reserve is there, and nothing of it is left.
    monkeypatch.setattr(restore_preview, "DATABASE_SPACE_FACTOR", 0.01)
    with pytest.raises(RestoreError, match="the load was ended"):
        restore(live.request(archive, disk_reserve=disk.least_free_bytes() - 20_000_000, scope="database"))
    assert (live.remains(), rows(live)) == ([], 40000)
    monkeypatch.undo()
    restore(live.request(archive))
    assert rows(live) == 40000


def test_a_disk_that_can_not_be_seen_is_said(live: Live, storage_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = backup(live.url, live.documents, storage_dir).path
    monkeypatch.setattr(server_disk, "LOCAL_HOSTS", ("nowhere",))
    (warning,) = preview(live.request(archive)).warnings
    assert "how much is free there can't be seen from this machine" in warning
