"""What keeps a restore from starting or from going on: then nothing live is touched."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from apiflask import APIFlask

from app.engine.storage.local import LocalStorage
from app.errors import Conflict, InvalidInput, NotFound, Throttled
from app.extensions import db
from app.models import BackupHistory
from app.runs import ledger, locks, queue, restore_steps
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.backups import backups
from app.services.people import admins
from app.services.recovery import backup_recovery
from app.services.restores import restores
from tests.support.application import EMAIL, PASSWORD, TESTER, Processes, finished, make_sparse, wait_for
from tests.support.databases import SourceDatabase
from tests.support.live_state import change_everything, ended, leftovers, live_state, made_backup, restored

MakeRow = Callable[..., BackupHistory]


def test_a_safety_backup_that_fails_stops_the_restore_and_nothing_is_touched(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()
    with psycopg.connect(source_db.admin_url) as connection:
        connection.execute("CREATE TABLE forbidden (id int)")
    change_everything(source_db, documents_dir)
    changed = live_state(source_db, documents_dir)
    row = restored(backup, source_db)
    assert row.status == "failed"
    assert "The safety backup was not made, so nothing was restored" in str(row.error)
    assert "forbidden" in str(row.error)
    assert live_state(source_db, documents_dir) == changed
    assert leftovers(source_db, documents_dir) == []
    assert backups.get(row.safety_backup_id).status == "failed"  # type: ignore[arg-type]

    row = restored(backup, source_db, safety_backup=False)
    assert (row.status, row.error, row.safety_backup_id) == ("completed", None, None)
    assert audit.list_entries(action="restore.without_safety_backup").total == 1
    assert live_state(source_db, documents_dir) != changed


def test_storage_without_room_for_a_safety_backup_stops_the_restore(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path, storage_dir: Path
) -> None:
    backup = made_backup()
    make_sparse(documents_dir / "large", 1 << 43)
    changed = live_names(documents_dir)
    row = restored(backup, source_db)
    assert (row.status, "free" in str(row.error)) == ("failed", True)
    assert live_names(documents_dir) == changed
    assert LocalStorage(storage_dir).partials() == []


def live_names(documents: Path) -> list[str]:
    """Return the names of the documents."""
    return sorted(str(path.relative_to(documents)) for path in documents.rglob("*"))


def test_what_is_typed_must_be_right(app: APIFlask, make_row: MakeRow, source_db: SourceDatabase) -> None:
    backup = make_row()
    with pytest.raises(InvalidInput) as wrong:
        restores.start(TESTER, backup.id, "another")
    assert "confirm" in wrong.value.fields
    with pytest.raises(InvalidInput):
        restores.start(TESTER, backup.id, source_db.name, scope="half")
    with pytest.raises(NotFound):
        restores.start(TESTER, uuid.uuid4(), source_db.name)
    with pytest.raises(Conflict):
        restores.start(TESTER, make_row("failed").id, source_db.name)
    admin = admins.create(TESTER, EMAIL, PASSWORD)
    actor = Actor("admin", str(admin.id), EMAIL, "192.0.2.1")
    with pytest.raises(InvalidInput) as wrong:
        restores.start(actor, backup.id, source_db.name, password="not the password")
    assert "password" in wrong.value.fields
    refusals = [refusal(actor, backup, source_db) for _ in range(10)]
    assert refusals[0] is InvalidInput
    assert refusals[-1] is Throttled
    assert restores.status() is None


def refusal(actor: Actor, backup: BackupHistory, source: SourceDatabase) -> type[Exception]:
    """Try to start a restore with a wrong password and return how that is refused."""
    with pytest.raises((InvalidInput, Throttled)) as refused:
        restores.start(actor, backup.id, source.name, password="a wrong password")
    return refused.type


def test_all_blockers_are_named_and_nothing_starts(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()
    with psycopg.connect(source_db.admin_url, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{source_db.name}" OWNER TO CURRENT_USER')
        with pytest.raises(Conflict) as refused:
            restores.start(TESTER, backup.id, source_db.name)
    assert "does not own" in refused.value.extra["blockers"][0]
    assert restores.status() is None


def test_a_second_restore_is_refused_with_the_id_of_the_first(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()
    first = restores.start(TESTER, backup.id, source_db.name)
    with pytest.raises(Conflict) as refused:
        restores.start(TESTER, backup.id, source_db.name)
    assert refused.value.extra == {"id": str(first.id)}
    with pytest.raises(Conflict, match="about to be restored"):
        backups.delete(TESTER, backup.id)
    assert ended(first).status == "completed"
    backups.delete(TESTER, backup.id)
    assert restores.get(first.id).backup_id is None


def test_a_restore_is_refused_while_a_backup_runs_and_waits_if_one_slipped_in(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()
    with locks.holding(locks.SOURCE, shared=True) as lock:
        assert lock is not None
        row = restores.start(TESTER, backup.id, source_db.name)
        wait_for(lambda: restores.get(row.id).phase == "waiting", 20)
        with pytest.raises(Conflict, match="is running"):
            restores.undo(TESTER)
    backup_recovery.enqueue_waiting()
    assert ended(row).status == "completed"
    make_sparse(documents_dir / "large", 4 << 30)
    running = backups.start(TESTER)
    wait_for(lambda: backups.get(running.id).phase == "documents")
    with pytest.raises(Conflict) as refused:
        restores.start(TESTER, backup.id, source_db.name)
    assert refused.value.extra == {"id": str(running.id)}
    assert any("A backup is running" in text for text in restores.preview(backup.id).blockers)
    backups.cancel(TESTER, running.id)
    finished(running)


def test_a_backup_started_during_a_restore_waits_until_it_is_over(
    app: APIFlask, worker: object, processes: Processes, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()
    processes.start("worker", "--queue", "backups")
    wait_for(lambda: len(queue.workers()) == 2)
    make_sparse(documents_dir / "large", 2 << 30)
    row = restores.start(TESTER, backup.id, source_db.name)
    wait_for(lambda: restores.get(row.id).phase == "safety_backup")
    other = backups.start(TESTER)
    wait_for(lambda: backups.get(other.id).phase == "waiting")
    assert restores.get(row.id).status == "in_progress"
    assert ended(row).status == "completed"
    other = finished(other)
    assert other.status == "completed"
    assert (other.started_at or row.created_at) >= (restores.get(row.id).finished_at or other.created_at)


def test_a_restore_is_cancelled_before_its_swap_and_never_after(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path, make_row: MakeRow
) -> None:
    backup = made_backup()
    make_sparse(documents_dir / "large", 6 << 30)
    changed = live_names(documents_dir)
    row = restores.start(TESTER, backup.id, source_db.name)
    wait_for(lambda: restores.get(row.id).phase == "safety_backup")
    restores.cancel(TESTER)
    row = ended(row)
    assert row.status == "cancelled"
    assert backups.get(row.safety_backup_id).status == "cancelled"  # type: ignore[arg-type]
    assert live_names(documents_dir) == changed
    with pytest.raises(Conflict, match="nothing to cancel"):
        restores.cancel(TESTER, row.id)
    swapping = ledger.restores.open("tests", scope="all")
    db.session.commit()
    attempt = ledger.restores.claim(swapping.id, "worker")
    assert attempt == 1
    restore_steps.begin_swap(swapping.id, attempt)
    with pytest.raises(Conflict, match="can no longer be stopped"):
        restores.cancel(TESTER, swapping.id)


def test_a_queued_restore_is_cancelled_at_once(
    app: APIFlask, worker: object, source_db: SourceDatabase, make_row: MakeRow
) -> None:
    row = ledger.restores.open("tests", scope="all")
    db.session.commit()
    assert restores.cancel(TESTER).status == "cancelled"
    assert ledger.restores.claim(row.id, "worker") is None
