"""`flask backup restore`, `undo`, `verify --restore` and `recovery-sheet`, each as a process of its own."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from apiflask import APIFlask

from app.config import Settings
from app.engine.backup.backup import BackupRequest, make_backup
from app.engine.source.preflight import Source
from app.services.audit import audit
from app.services.backups import backups
from tests.support.application import Processes, alone
from tests.support.databases import SourceDatabase, drop_database, fresh_source
from tests.support.live_state import change_everything, live_state, made_backup


def test_a_backup_is_previewed_restored_and_undone(
    app: APIFlask, processes: Processes, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()
    before = live_state(source_db, documents_dir)
    change_everything(source_db, documents_dir)
    changed = live_state(source_db, documents_dir)
    looked = processes.run("backup", "restore", str(backup.id), "--dry-run")
    assert looked.returncode == 0, looked.stderr
    assert "public.vehicles: 10 rows now, 1000 rows in the backup; 990 rows come back, 0 change, 0 go" in looked.stdout
    assert "public.later: 1 rows now, missing" in looked.stdout
    assert "1 come back" in looked.stdout
    assert live_state(source_db, documents_dir) == changed
    wrong = processes.run("backup", "restore", str(backup.id), stdin="another\n")
    assert (wrong.returncode, source_db.name in wrong.stderr) == (1, True)
    done = processes.run("backup", "restore", str(backup.id), "--wait", stdin=f"{source_db.name}\n")
    assert done.returncode == 0, done.stderr
    assert "status:        completed" in done.stdout
    assert live_state(source_db, documents_dir) == before
    undone = processes.run("backup", "undo")
    assert undone.returncode == 0, undone.stderr
    assert live_state(source_db, documents_dir) == changed


def test_only_the_documents_come_back_where_only_they_are_asked_for(
    app: APIFlask, processes: Processes, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()
    before = live_state(source_db, documents_dir)
    change_everything(source_db, documents_dir)
    changed = live_state(source_db, documents_dir)
    arguments = ("--scope", "documents", "--no-safety-backup", "--yes", "--wait")
    done = processes.run("backup", "restore", str(backup.id), *arguments)
    assert done.returncode == 0, done.stderr
    assert live_state(source_db, documents_dir) == (*changed[:2], before[2])
    assert audit.list_entries(action="restore.without_safety_backup").total == 1
    assert backups.list_backups(kind="safety").total == 0


def test_a_backup_is_proven_by_restoring_it(
    app: APIFlask, processes: Processes, worker: object, source_db: SourceDatabase
) -> None:
    backup = made_backup()
    done = processes.run("backup", "verify", "--restore", str(backup.id))
    assert done.returncode == 0, done.stderr
    assert "restored into a scratch database" in done.stdout
    row = backups.get(backup.id)
    assert row.restore_tested_at is not None
    assert (row.restore_test_seconds or 0) > 0
    with psycopg.connect(source_db.admin_url) as connection:
        found = connection.execute("SELECT count(*) FROM pg_database WHERE datname LIKE %s", [f"{source_db.name}%"])
        assert found.fetchone() == (1,)


def test_the_recovery_sheet_has_the_key_and_no_password(
    app: APIFlask, processes: Processes, settings: Settings, source_db: SourceDatabase
) -> None:
    done = processes.run("backup", "recovery-sheet")
    assert done.returncode == 0, done.stderr
    assert f"BACKUP_SIGNING_KEY={settings.signing_key_text}" in done.stdout
    assert "flask backup restore --file ARCHIVE --to" in done.stdout
    assert source_db.password not in done.stdout
    assert settings.secret_key not in done.stdout
    assert audit.list_entries(action="recovery_sheet.downloaded").total == 1


@pytest.fixture
def archive(settings: Settings, source_db: SourceDatabase, documents_dir: Path, storage_dir: Path) -> Path:
    """An archive of the source, and nothing else left."""
    import uuid

    source = Source(source_db.url, documents_dir, "motovaultpro", source_db.bin_dir)
    made: Path = make_backup(BackupRequest(source, storage_dir, settings.signing_key, uuid.uuid4())).path
    return made


@pytest.mark.parametrize("how", ["signing key", "secret key", "trusted"])
def test_an_archive_alone_is_restored_on_a_new_machine(
    archive: Path, settings: Settings, source_db: SourceDatabase, environment: dict[str, str], tmp_path: Path, how: str
) -> None:
    before = live_state(source_db, Path(environment["BACKUP_DOCUMENTS_DIR"]))
    known = {
        "signing key": {"BACKUP_SIGNING_KEY": settings.signing_key_text},
        "secret key": {"SECRET_KEY": settings.secret_key},
        "trusted": {},
    }[how]
    documents = tmp_path / "new machine" / "documents"
    documents.parent.mkdir()
    with fresh_source(source_db.server) as new:
        arguments = ["--file", str(archive), "--to", new.url, "--documents", str(documents)]
        arguments += ["--trust"] if how == "trusted" else []
        looked = alone("backup", "restore", *arguments, "--dry-run", **known)
        assert looked.returncode == 0, looked.stderr
        assert ("not signed" in looked.stdout) is (how == "trusted")
        done = alone("backup", "restore", *arguments, "--yes", **known)
        assert done.returncode == 0, done.stderr
        assert "Restored: 1 tables" in done.stdout
        assert live_state(new, documents) == before


def test_bad_orders_are_one_line_without_the_password(archive: Path, tmp_path: Path, source_db: SourceDatabase) -> None:
    missing = alone("backup", "restore", "--file", str(archive))
    assert (missing.returncode, "--to URL" in missing.stderr) == (2, True)
    away = f"postgresql://somebody:very-secret-word@127.0.0.1:1/{source_db.name}"
    done = alone("backup", "restore", "--file", str(archive), "--to", away, "--documents", str(tmp_path / "d"), "--yes")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "very-secret-word" not in done.stderr + done.stdout
    none = alone("backup", "restore", "--file", str(tmp_path / "none"), "--to", source_db.url, "--documents", str(tmp_path))
    assert (none.returncode, "Traceback" in none.stderr) == (1, False)


def test_a_database_that_is_gone_is_named(archive: Path, tmp_path: Path, source_db: SourceDatabase) -> None:
    drop_database(source_db.server, source_db.name)
    arguments = ["--file", str(archive), "--to", source_db.url, "--documents", str(tmp_path / "documents"), "--yes"]
    done = alone("backup", "restore", *arguments)
    assert done.returncode == 1
    assert source_db.name in done.stderr
