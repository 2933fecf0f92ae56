"""A restore from its start to its end, by a real worker."""

from __future__ import annotations

from pathlib import Path

import pytest
from apiflask import APIFlask

from app.engine.restore import swap
from app.services.audit import audit
from app.services.backups import backups
from app.services.recovery import restore_recovery
from app.services.restores import restores
from tests.support.application import TESTER
from tests.support.databases import SourceDatabase
from tests.support.live_state import change_everything, leftovers, live_state, made_backup, restored


def test_the_whole_story(app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path) -> None:
    backup = made_backup()
    before = live_state(source_db, documents_dir)
    change_everything(source_db, documents_dir)
    changed = live_state(source_db, documents_dir)
    assert changed != before
    row = restored(backup, source_db)
    assert (row.status, row.error) == ("completed", None)
    assert live_state(source_db, documents_dir) == before
    safety = backups.get(row.safety_backup_id)  # type: ignore[arg-type]
    assert (safety.kind, safety.status) == ("safety", "completed")
    tables = {table["name"]: table for table in row.result["tables"]}
    vehicles, later = ({"schema": "public", "name": name, "approximate": False} for name in ("vehicles", "later"))
    assert tables["vehicles"] == vehicles | {"rows_before": 10, "rows_after": 1000}, "the safety backup has counted them"
    assert tables["later"] == later | {"rows_before": 1, "rows_after": None}
    assert row.result["documents_after"] == len(before[2])  # type: ignore[arg-type]
    assert row.undo_until is not None

    row = restores.undo(TESTER)
    assert row.undone_at is not None
    assert live_state(source_db, documents_dir) == changed
    row = restores.undo(TESTER, row.id)
    assert row.undone_at is None
    assert live_state(source_db, documents_dir) == before
    actions = [entry.action for entry in audit.list_entries().items]
    assert actions[:4] == ["restore.redone", "restore.undone", "restore.completed", "restore.started"]


def test_history_and_backups_made_since_stay(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path, storage_dir: Path
) -> None:
    old, newer = made_backup(), made_backup()
    row = restored(old, source_db)
    assert row.status == "completed"
    listed = backups.list_backups().items
    assert {item.id for item in listed} == {old.id, newer.id, row.safety_backup_id}
    assert all((storage_dir / str(item.filename)).is_file() for item in listed)
    assert audit.list_entries(action="backup.started").total == 2


def test_the_kept_state_is_dropped_when_its_time_is_over(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()
    row = restored(backup, source_db)
    before = live_state(source_db, documents_dir)
    assert len(leftovers(source_db, documents_dir)) == 2
    row.undo_until = row.created_at
    from app.extensions import db

    db.session.commit()
    assert "no longer kept" in str(restores.undo_problem(restores.get(row.id)))
    restore_recovery.reconcile()
    row = restores.get(row.id)
    assert row.discarded_at is not None
    assert leftovers(source_db, documents_dir) == []
    assert live_state(source_db, documents_dir) == before


def test_without_a_safety_backup_the_rows_before_are_marked_as_estimates(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()
    change_everything(source_db, documents_dir)
    row = restored(backup, source_db, safety_backup=False)
    tables = {table["name"]: (table["rows_after"], table["approximate"]) for table in row.result["tables"]}
    assert tables == {"vehicles": (1000, True), "later": (None, True)}


def test_the_oldest_kept_state_is_dropped_where_there_are_too_many(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = made_backup()
    first, second = (restored(backup, source_db, safety_backup=False) for _ in range(2))
    assert len(leftovers(source_db, documents_dir)) == 4

    monkeypatch.setattr(swap, "MOST_KEPT", 1)
    restore_recovery.reconcile()

    assert restores.get(first.id).discarded_at is not None
    assert restores.undo_problem(restores.get(first.id)) is not None
    assert restores.undo_problem(restores.get(second.id)) is None
    assert len(leftovers(source_db, documents_dir)) == 2
