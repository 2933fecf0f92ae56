"""What the job says of a restore whose metadata database goes away around its end."""

from __future__ import annotations

import psycopg
import pytest
from apiflask import APIFlask
from sqlalchemy.exc import OperationalError

from app.jobs import backup as backup_job
from app.jobs import restore as restore_job
from app.runs import ledger, restore_steps
from app.services.audit import audit
from app.services.backups import backups
from app.services.recovery import restore_recovery
from app.services.restores import restore_run, restores
from tests.support.application import TESTER
from tests.support.databases import SourceDatabase


def gone(*_: object, **__: object) -> None:
    """Fail as a query does whose server is gone."""
    raise OperationalError("SELECT 1", {}, psycopg.OperationalError("the server closed the connection unexpectedly"))


def ends_of_restores() -> list[str]:
    found = [entry.action for entry in audit.list_entries().items]
    return [action for action in found if action in ("restore.completed", "restore.failed")]


def queued_restore(source: SourceDatabase) -> str:
    backup_id = backups.start(TESTER).id
    backup_job.run(str(backup_id))
    return str(restores.start(TESTER, backup_id, source.name, safety_backup=False).id)


@pytest.mark.parametrize("step", ["expire", "drop_kept"])
def test_a_database_that_vanishes_after_the_row_was_completed_does_not_make_the_restore_a_failed_one(
    app: APIFlask, source_db: SourceDatabase, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    row_id = queued_restore(source_db)
    monkeypatch.setattr(restore_recovery, step, gone)
    restore_job.run(row_id)
    row = restores.status()
    assert row is not None
    assert (str(row.id), row.status, row.error) == (row_id, "completed", None)
    assert ends_of_restores() == ["restore.completed"]


def test_a_swap_that_was_finished_after_an_error_is_noted_as_completed(
    app: APIFlask, source_db: SourceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    row_id = queued_restore(source_db)
    with monkeypatch.context() as patch:
        patch.setattr(restore_run.RestoreRun, "_complete", gone)
        with pytest.raises(OperationalError):
            restore_job.run(row_id)
    row = restores.status()
    assert row is not None
    assert (str(row.id), row.status) == (row_id, "completed")
    assert restore_recovery.LOST_FINISHED in row.warnings
    assert ends_of_restores() == ["restore.completed"]


def test_an_error_before_the_swap_is_noted_as_a_failure(
    app: APIFlask, source_db: SourceDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: object) -> None:
        raise RuntimeError("nobody has thought of this")

    row_id = queued_restore(source_db)
    monkeypatch.setattr(restore_steps, "begin_swap", lost)
    with pytest.raises(RuntimeError):
        restore_job.run(row_id)
    row = restores.status()
    assert row is not None
    assert (row.status, row.error) == ("failed", ledger.unexpected(RuntimeError("nobody has thought of this")))
    assert ends_of_restores() == ["restore.failed"]
