"""Two verifications of the same archive at the same time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from apiflask import APIFlask

from app import current
from app.engine.proof.restore_test import RestoreTest, verify_by_restoring
from app.extensions import db
from app.jobs import backup as backup_job
from app.jobs import verify as verify_job
from app.runs import verification_steps
from app.services.backups import archive_sweep, backups
from app.services.installation import restore_engine
from tests.support.application import TESTER


def at_once(app: APIFlask, *works: Callable[[], object]) -> None:
    """Do all of these at the same time, each in a context of its own."""
    failures: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        with app.app_context():
            try:
                work()
            except BaseException as error:
                failures.append(error)
            finally:
                db.session.remove()

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def test_two_verifications_with_restore_at_once_find_no_fault_in_a_good_archive(
    app: APIFlask, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[str | None] = []
    verified = verification_steps.finish

    def note(backup_id: UUID, read_at: datetime | None, problem: str | None, **columns: Any) -> bool:
        found.append(problem)
        return bool(verified(backup_id, read_at, problem, **columns))

    monkeypatch.setattr(verification_steps, "finish", note)
    row_id = backups.start(TESTER).id
    backup_job.run(str(row_id))
    asked: list[bool] = []
    at_once(app, *[lambda: asked.append(verification_steps.request(row_id, True))] * 4)
    assert sorted(asked) == [False, False, False, True]
    # A job that was put into the queue several times, with as many workers.
    at_once(app, *[lambda: verify_job.run(str(row_id))] * 3)
    # The last one to end would hide what another has found.
    assert set(found) == {None}
    row = backups.get(row_id)
    assert (row.error, row.damaged, row.verify_requested_at) == (None, None, None)
    assert row.restore_tested_at is not None
    tested_at = row.restore_tested_at
    verify_job.run(str(row_id))
    assert backups.get(row_id).restore_tested_at == tested_at, "nobody asked for another one"

    path, key, reports = backups.archive_file(row_id).path, current.settings().signing_key, []
    target = restore_engine.target()
    at_once(app, *[lambda: reports.append(verify_by_restoring(RestoreTest(path, target, key, uuid4())))] * 3)
    assert [report.problems for report in reports] == [[], [], []]


def test_a_verification_that_fails_unexpectedly_is_over_and_says_so(
    app: APIFlask, monkeypatch: pytest.MonkeyPatch, storage_dir: Path
) -> None:
    row_id = backups.start(TESTER).id
    backup_job.run(str(row_id))
    archive_sweep.sweep()
    verified_at, path = backups.get(row_id).verified_at, storage_dir / str(backups.get(row_id).filename)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("nobody has thought of this")

    monkeypatch.setattr(verify_job, "verify_archive", fail)
    backups.verify(TESTER, row_id)
    with pytest.raises(RuntimeError):
        verify_job.run(str(row_id))
    row = backups.get(row_id)
    assert (row.verify_requested_at, row.verified_at) == (None, verified_at)
    assert "nobody has thought of this" in str(row.error)
    # One that the tick asked for is not asked for again each minute either.
    os.utime(path, ns=(1, 1))
    archive_sweep.sweep()
    with pytest.raises(RuntimeError):
        verify_job.run(str(row_id))
    archive_sweep.sweep()
    row = backups.get(row_id)
    assert (row.verify_requested_at, row.verified_at, row.damaged) == (None, None, None)
