"""A restore that fails leaves the old state live, in every bit, and nothing beside it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from app.engine.errors import RestoreBlocked, RestoreError
from app.engine.restore import swap
from app.engine.restore.places import exchange as exchange_module
from app.engine.restore.places.journal import Journal
from app.engine.restore.places.staging_folder import StagingFolder, Trust
from app.engine.restore.restore import restore
from app.engine.restore.swap import undo
from tests.support.databases import admin_connection
from tests.support.file_limit import files_of_at_most
from tests.support.restoring import Live, Pristine
from tests.support.small_pair import change

PHASES = ["prepare", "check", "database", "indexes", "documents", "verify", "swap", "health"]


class Stop(Exception):
    """Raised by a test's hook."""


@pytest.fixture
def live(live: Live) -> Live:
    """A live pair that has changed since the archive was made."""
    change(live)
    return live


@contextmanager
def nothing_changes(live: Live) -> Iterator[None]:
    """Check that the block leaves the live pair as it was and nothing beside it."""
    before = live.state()
    yield
    assert live.state() == before
    assert live.remains() == []


@pytest.mark.parametrize("phase", PHASES)
def test_progress_that_raises_ends_it_in_every_phase(small: Pristine, live: Live, phase: str) -> None:
    def progress(now: str, done: int, total: int | None) -> None:
        if now == phase:
            raise Stop

    with nothing_changes(live), pytest.raises(Stop):
        restore(live.request(small.archive), progress)


def test_the_fence_that_raises_ends_it(small: Pristine, live: Live) -> None:
    def fence() -> None:
        assert live.remains() != []
        raise Stop

    with nothing_changes(live), pytest.raises(Stop):
        restore(live.request(small.archive), before_swap=fence)


def test_phases_come_in_order(small: Pristine, live: Live) -> None:
    seen: list[str] = []

    restore(live.request(small.archive), lambda phase, done, total: seen.append(phase) if phase not in seen else None)

    assert sorted(seen) == sorted(PHASES)
    assert (seen[:4], seen[-2:]) == (PHASES[:4], PHASES[-2:])


def test_a_new_database_that_does_not_answer_is_swapped_back(
    small: Pristine, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the backup's own grants keep the app's role out."""
    original = swap.check_health

    def shut_then_check(journal: Journal, url: str) -> None:
        with admin_connection(live.server) as connection:
            connection.execute(f'ALTER DATABASE "{live.name}" ALLOW_CONNECTIONS false')
        original(journal, url)

    monkeypatch.setattr(swap, "check_health", shut_then_check)
    with nothing_changes(live), pytest.raises(RestoreError, match=r"does not answer.*is live again"):
        restore(live.request(small.archive))


def test_a_folder_that_can_not_be_exchanged_brings_the_database_back(
    small: Pristine, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(one: Path, other: Path) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(exchange_module, "_rename_exchange", failing)
    with nothing_changes(live), pytest.raises(RestoreError, match=r"could not be swapped.*is live again"):
        restore(live.request(small.archive))


def test_an_undo_that_fails_leaves_what_was_live(small: Pristine, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    request = live.request(small.archive)
    restore(request)
    now = live.state()

    def failing(one: Path, other: Path) -> None:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(exchange_module, "_rename_exchange", failing)
        with pytest.raises(RestoreError, match="Nothing was swapped"):
            undo(live.state_dir, request.restore_id, live.source())
    assert live.state() == now
    assert live.remains() == live.kept(request.restore_id)

    undo(live.state_dir, request.restore_id, live.source())
    assert live.state() != now


def test_journals_that_can_not_be_written_are_an_error_in_words(small: Pristine, live: Live) -> None:
    live.state_dir.write_text("a file where the folder must be")
    before = live.state()

    with pytest.raises(RestoreError, match="journal"):
        restore(live.request(small.archive))

    assert live.state() == before
    live.state_dir.unlink()
    assert live.remains() == []


def test_a_session_of_a_superuser_is_a_blocker(small: Pristine, live: Live) -> None:
    with psycopg.connect(live.admin_url), nothing_changes(live), pytest.raises(RestoreBlocked, match="may not end"):
        restore(live.request(small.archive))


def test_a_session_of_a_superuser_that_only_looked_in_is_waited_for(small: Pristine, live: Live) -> None:
    session = psycopg.connect(live.admin_url)
    leaves = threading.Timer(0.2, session.close)
    leaves.start()
    restore(live.request(small.archive))
    leaves.join()


def test_a_session_of_a_superuser_that_comes_later_keeps_the_old_state(small: Pristine, live: Live) -> None:
    sessions: list[psycopg.Connection] = []
    before = live.state()
    try:
        with pytest.raises(RestoreError, match=r"could not be swapped.*is live again"):
            restore(live.request(small.archive), before_swap=lambda: sessions.append(psycopg.connect(live.admin_url)))
    finally:
        for session in sessions:
            session.close()
    assert live.state() == before
    assert live.remains() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a small filesystem")
def test_a_disk_that_is_full_is_refused_before_and_noticed_during(
    small: Pristine, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = live.documents.parent
    moved = place.with_name("moved")
    place.rename(moved)
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=26m", "tmpfs", place], capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        subprocess.run(["cp", "-a", moved / "documents", live.documents], check=True)
        ballast = place / "ballast"
        ballast.write_bytes(bytes(8_000_000))
        with nothing_changes(live), pytest.raises(RestoreBlocked, match="has only"):
            restore(live.request(small.archive))

        ballast.unlink()
        original = StagingFolder.__init__

        def with_less_room(folder: StagingFolder, path: Path, trust: Trust) -> None:
            original(folder, path, trust)
            ballast.write_bytes(bytes(8_000_000))

        monkeypatch.setattr(StagingFolder, "__init__", with_less_room)
        with nothing_changes(live), pytest.raises(RestoreError, match="can't be written: No space left"):
            restore(live.request(small.archive))
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_write_that_fails_while_staging_leaves_nothing(small: Pristine, live: Live) -> None:
    refused = pytest.raises(RestoreError, match="can't be written: File too large")
    with nothing_changes(live), refused, files_of_at_most(5_000_000):
        restore(live.request(small.archive))
