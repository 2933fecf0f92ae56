"""Build the engine's restore requests: which archive goes where."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID, uuid4

import psycopg
from psycopg import conninfo

from app import current
from app.engine.restore.places.journal import all_in
from app.engine.restore.request import RestoreRequest
from app.engine.restore.swap import survey_journals
from app.engine.source.preflight import Source
from app.models import BackupHistory
from app.services.installation.source import source_of
from app.services.installation.storage import storage

JOURNALS = ".restores"


def target() -> Source:
    """Return the target of restores, which is the source of backups."""
    return source_of(current.settings())


def state_dir() -> Path:
    """Return the folder of the restores' journals."""
    return storage().folder / JOURNALS


def database_name() -> str:
    """Return the name of the database that a restore replaces, which its confirmation must repeat."""
    try:
        return str(conninfo.conninfo_to_dict(current.settings().source_url).get("dbname") or "")
    except psycopg.ProgrammingError:
        return ""


def request(backup: BackupHistory, path: Path, scope: str, restore_id: UUID | None = None) -> RestoreRequest:
    """Build the engine's request; without a restore it is for a preview only."""
    return RestoreRequest(
        archive=path,
        target=target(),
        state_dir=state_dir(),
        signing_key=current.settings().signing_key,
        restore_id=restore_id or uuid4(),
        scope=scope,
        trusted=backup.trusted_at is not None,
    )


def old_state_is_live(restore_id: UUID) -> bool:
    """Return whether the state before a restore is the live one; its other state must be kept."""
    return any(journal.restore_id == restore_id and journal.wanted == "old" for journal in all_in(state_dir()))


def journal_problems() -> list[str]:
    """Return a sentence for each restore's journal that can't be used. Raise EngineError if the source's URL is invalid."""
    return [current.settings().redact(problem) for problem in survey_journals(state_dir(), target()).problems]
