"""The preview: what a restore would change, at once from estimates, exactly while one looks."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from app.engine.errors import ArchiveError
from app.engine.restore.preview.preview import preview
from tests.support.archives import KEY
from tests.support.dumping import dumped
from tests.support.hostile import plain_tar
from tests.support.restoring import Live, Pristine


@pytest.fixture
def live(small: Pristine, tmp_path: Path) -> Iterator[Live]:
    """A live pair with known differences; a preview changes nothing."""
    with small.live(tmp_path) as live:
        with psycopg.connect(live.url, autocommit=True) as connection:
            connection.execute("DELETE FROM vehicles WHERE id > 1500; DROP TABLE version")
            connection.execute("CREATE TABLE later (id int); INSERT INTO later SELECT generate_series(1, 7)")
            connection.execute("ANALYZE")
        (live.documents / "old.txt").unlink()
        (live.documents / "1" / "nothing.txt").write_text("something")
        (live.documents / "added.txt").write_text("added")
        (live.documents / "moved in time.txt").write_text("x")
        note = live.documents / "2" / "note-2.md"
        os.utime(note, ns=(1, note.stat().st_mtime_ns + 10**9))
        before = live.state()
        yield live
        assert live.state() == before
        assert live.remains() == []


def check_documents(looked: object) -> None:
    documents = looked.documents  # type: ignore[attr-defined]
    assert (documents.added, documents.changed, documents.lost) == (1, 2, 2)
    assert documents.examples["added"] == ["old.txt"]
    assert sorted(documents.examples["changed"]) == ["1/nothing.txt", "2/note-2.md"]
    assert documents.examples["lost"] == ["added.txt", "moved in time.txt"]
    assert not documents.approximate


def test_an_exact_preview_counts_and_compares(small: Pristine, live: Live) -> None:
    looked = preview(live.request(small.archive), exact=True)

    assert (looked.ours, looked.signed, looked.strategy, looked.exact) == (True, True, "swap", True)
    assert (looked.blockers, looked.warnings, looked.code) == ([], [], [])
    assert (looked.database_name, looked.version_now[:2], looked.version_backup[:2]) == (live.name, "18", "18")
    assert {(t.schema, t.name): (t.rows_now, t.rows_backup, t.approximate) for t in looked.tables} == {
        ("public", "later"): (7, None, False),
        ("public", "vehicles"): (1500, 2000, False),
        ("public", "version"): (None, 1, False),
    }
    check_documents(looked)
    assert looked.documents is not None
    assert looked.documents.files_now == looked.documents.files_backup + 1
    assert looked.disk_needed_bytes > looked.documents.bytes_backup


def test_a_quick_preview_is_marked_approximate_and_takes_less_than_a_second(small: Pristine, live: Live) -> None:
    began = time.monotonic()
    looked = preview(live.request(small.archive))
    took = time.monotonic() - began

    assert took < 1.0
    assert not looked.exact
    tables = {table.name: (table.rows_now, table.rows_backup, table.approximate) for table in looked.tables}
    assert tables["vehicles"][1:] == (2000, True)
    assert tables["vehicles"][0] == pytest.approx(1500, abs=600)
    assert tables["version"] == (None, 1, True)
    assert looked.documents is not None
    assert looked.documents.approximate
    assert looked.documents.lost is None


def test_a_plain_archive_is_compared_too(small: Pristine, live: Live, tmp_path: Path) -> None:
    text = dumped(small.server.bin_dir, small.server.url(small.name))
    archive = plain_tar(tmp_path / "plain.tar.gz", text, small.documents)

    looked = preview(live.request(archive), exact=True)

    assert (looked.ours, looked.signed, looked.version_backup) == (False, False, "18")
    assert looked.blockers == []
    assert {(t.name): (t.rows_now, t.rows_backup) for t in looked.tables}["vehicles"] == (1500, 2000)
    check_documents(looked)


def test_a_scope_asks_only_for_what_it_needs(small: Pristine, live: Live) -> None:
    assert preview(live.request(small.archive, scope="database"), exact=True).documents is None
    assert preview(live.request(small.archive, scope="documents"), exact=True).tables == []


def test_what_is_no_archive_is_said_in_words(live: Live, tmp_path: Path) -> None:
    path = tmp_path / "no.tar.gz"
    with pytest.raises(ArchiveError, match="can't be opened"):
        preview(live.request(path))
    path.write_text("hello")
    (blocker,) = preview(live.request(path, signing_key=KEY), exact=True).blockers
    assert "cut short" in blocker
    path.write_text("hello, this is no archive at all")
    (blocker,) = preview(live.request(path, signing_key=KEY), exact=True).blockers
    assert "not a gzip file" in blocker


def test_a_folder_that_is_a_mount_point_is_a_blocker(small: Pristine, live: Live) -> None:
    request = live.request(small.archive)
    root = type(request)(**{**request.__dict__, "target": type(request.target)(live.url, Path("/"), "x")})

    assert any("mount point" in blocker for blocker in preview(root).blockers)
