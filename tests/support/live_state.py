"""Helpers of the tests of restores: a backup, changes, and what is live."""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import UUID, uuid4

import psycopg

from app.config import Settings
from app.engine.backup.backup import BackupRequest, BackupResult, make_backup
from app.models import BackupHistory, Restore
from app.services.backups import backups
from app.services.installation.source import source_of
from app.services.restores import restores
from tests.support.application import TESTER, finished, wait_for
from tests.support.databases import SourceDatabase


def made_backup() -> BackupHistory:
    """Have the worker make a backup and return its row."""
    row = finished(backups.start(TESTER))
    assert row.status == "completed", row.error
    return row


def publish(settings: Settings, key: bytes | None = None, backup_id: UUID | None = None) -> BackupResult:
    """Publish an archive that no row knows, signed with the installation's key or another one."""
    request = BackupRequest(
        source=source_of(settings),
        storage_dir=settings.storage_dir,
        signing_key=key or settings.signing_key,
        backup_id=backup_id or uuid4(),
    )
    return make_backup(request)


def restored(backup: BackupHistory, source: SourceDatabase, **options: object) -> Restore:
    """Have the worker restore a backup and return the restore's row, however it ended."""
    return ended(restores.start(TESTER, backup.id, source.name, **options))  # type: ignore[arg-type]


def ended(row: Restore, seconds: float = 60) -> Restore:
    """Wait until a restore is closed and return its row."""
    row_id = row.id
    wait_for(lambda: restores.get(row_id).status not in ("queued", "in_progress"), seconds)
    return restores.get(row_id)


def change_everything(source: SourceDatabase, documents: Path) -> None:
    """Change rows and tables, and add, change and remove documents."""
    with psycopg.connect(source.url) as connection:
        connection.execute("DELETE FROM vehicles WHERE id > 10")
        connection.execute("CREATE TABLE later AS SELECT 1 AS n")
    files = sorted(path for path in documents.rglob("*") if path.is_file())
    files[0].write_bytes(b"overwritten")
    files[1].unlink()
    (documents / "later.txt").write_text("written after the backup")


def live_state(source: SourceDatabase, documents: Path) -> tuple[object, ...]:
    """Return what is live: the tables, the vehicles, and the documents by hash."""
    with psycopg.connect(source.url) as connection:
        tables = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1"
        ).fetchall()
        rows = connection.execute("SELECT md5(string_agg(v::text, ',' ORDER BY id)) FROM vehicles v").fetchall()
    files = {
        str(path.relative_to(documents)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(documents.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
    return tables, rows, files


def leftovers(source: SourceDatabase, documents: Path) -> list[str]:
    """Return the databases and folders of restores that lie about beside the live ones."""
    with psycopg.connect(source.admin_url) as connection:
        found = connection.execute(
            "SELECT datname FROM pg_database WHERE datname LIKE %s AND datname <> %s", [f"{source.name}%", source.name]
        ).fetchall()
    folders = [path.name for path in documents.parent.iterdir() if path.name.startswith(f".{documents.name}_")]
    return [name for (name,) in found] + folders
