"""Restores of every kind: from elsewhere, trusted, in place, one after the other."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from pathlib import Path

import psycopg
import pytest
from apiflask import APIFlask
from psycopg import sql

from app import current
from app.errors import Conflict
from app.services.audit import audit
from app.services.backups import backups
from app.services.restores import restores
from tests.support.application import TESTER
from tests.support.databases import SourceDatabase
from tests.support.foreign_archives import upload
from tests.support.live_state import change_everything, leftovers, live_state, made_backup, restored


def made_by_hand(source: SourceDatabase, documents: Path) -> bytes:
    """Return an archive as the usual script makes it: pg_dump, gzip, tar."""
    dump = subprocess.run([source.bin_dir / "pg_dump", "-d", source.url], capture_output=True, check=True).stdout
    packed, buffer = gzip.compress(dump), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("database/motovaultpro.sql.gz")
        entry.size = len(packed)
        archive.addfile(entry, io.BytesIO(packed))
        archive.add(documents, "documents")
    return buffer.getvalue()


def owners(source: SourceDatabase) -> set[str]:
    """Return who owns the tables of the live database."""
    with psycopg.connect(source.url) as connection:
        return {owner for (owner,) in connection.execute("SELECT tableowner FROM pg_tables WHERE schemaname = 'public'")}


def test_an_archive_made_by_hand_is_uploaded_and_restored_untrusted(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    before = live_state(source_db, documents_dir)
    row = upload(made_by_hand(source_db, documents_dir))
    assert (row.origin, row.summary["rows"]) == ("foreign", 1000)
    change_everything(source_db, documents_dir)
    seen = restores.preview(row.id, exact=True)
    assert (seen.diff.signed, seen.diff.trusted, seen.blockers) == (False, False, [])
    assert any("not signed" in text for text in seen.warnings)
    done = restored(row, source_db)
    assert (done.status, done.error) == ("completed", None)
    assert live_state(source_db, documents_dir) == before
    assert owners(source_db) == {source_db.user}
    with pytest.raises(Conflict, match="not executed for a test"):
        backups.verify(TESTER, row.id, restore=True)


def test_an_archive_that_is_trusted_is_restored_as_ours(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    before = live_state(source_db, documents_dir)
    row = upload(made_by_hand(source_db, documents_dir))
    with psycopg.connect(source_db.admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER ROLE {} NOCREATEROLE").format(sql.Identifier(source_db.user)))
    with pytest.raises(Conflict, match="trust this archive"):
        restores.start(TESTER, row.id, source_db.name)
    restores.trust(TESTER, row.id, restores.TRUST_WORDS)
    change_everything(source_db, documents_dir)
    assert restored(row, source_db).status == "completed"
    assert live_state(source_db, documents_dir) == before


def test_a_role_that_may_not_create_databases_restores_in_place_without_undo(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()
    before = live_state(source_db, documents_dir)
    change_everything(source_db, documents_dir)
    with psycopg.connect(source_db.admin_url, autocommit=True) as connection:
        connection.execute(sql.SQL("ALTER ROLE {} NOCREATEDB").format(sql.Identifier(source_db.user)))
    assert restores.preview(backup.id).diff.strategy == "in_place"
    row = restored(backup, source_db)
    assert (row.status, row.error, row.undo_until) == ("completed", None, None)
    assert live_state(source_db, documents_dir) == before
    assert leftovers(source_db, documents_dir) == []
    with pytest.raises(Conflict, match="safety backup"):
        restores.undo(TESTER)
    safety = backups.get(row.safety_backup_id)  # type: ignore[arg-type]
    assert restored(safety, source_db, safety_backup=False).status == "completed"
    assert live_state(source_db, documents_dir) != before


def test_only_the_last_restore_is_undone_first(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    states = [live_state(source_db, documents_dir)]
    backup = made_backup()
    change_everything(source_db, documents_dir)
    states.append(live_state(source_db, documents_dir))
    first = restored(backup, source_db)
    (documents_dir / "between.txt").write_text("between the two")
    states.append(live_state(source_db, documents_dir))
    second = restored(backup, source_db)
    assert live_state(source_db, documents_dir) == states[0]
    with pytest.raises(Conflict, match="later restore"):
        restores.undo(TESTER, first.id)
    restores.undo(TESTER, second.id)
    assert live_state(source_db, documents_dir) == states[2]
    restores.undo(TESTER, first.id)
    assert live_state(source_db, documents_dir) == states[1]
    assert audit.list_entries(action="restore.undone").total == 2


def test_the_documents_of_another_restore_do_not_keep_a_database_from_being_undone(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()
    change_everything(source_db, documents_dir)
    changed = live_state(source_db, documents_dir)
    first = restored(backup, source_db, scope="database")
    second = restored(backup, source_db, scope="documents")
    assert restores.undo_problem(first) is None
    restores.undo(TESTER, first.id)
    restores.undo(TESTER, second.id)
    assert live_state(source_db, documents_dir) == changed


def test_a_fresh_machine_with_another_key_sees_the_archive_as_signed_elsewhere(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path, storage_dir: Path
) -> None:
    backup = made_backup()
    before = live_state(source_db, documents_dir)
    content = (storage_dir / str(backup.filename)).read_bytes()
    backups.delete(TESTER, backup.id)
    settings = current.settings()
    own_key = settings.signing_key_text
    object.__setattr__(settings, "signing_key_text", "the key of another installation")
    row = upload(content)
    assert row.origin == "other_key"
    backups.delete(TESTER, row.id)
    object.__setattr__(settings, "signing_key_text", own_key)
    row = upload(content)
    assert row.origin == "own"
    change_everything(source_db, documents_dir)
    assert restored(row, source_db).status == "completed"
    assert live_state(source_db, documents_dir) == before
