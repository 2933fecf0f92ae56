"""Where a restore puts what it makes: names that follow from its id and its target, so no journal has to be believed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from ...source.postgres import connect, read_url
from ...source.preflight import Source
from .journal import Journal
from .staging_database import derived_name


@dataclass(frozen=True)
class Places:
    """The names of the live database, the one that is staged and the old one that is kept; the live folder and the other
    one, staged or kept, beside it."""

    live_name: str
    staging_name: str
    kept_name: str
    live_folder: Path
    other_folder: Path


def places(target: Source, restore_id: UUID) -> Places:
    """Derive the names that a restore uses. Raise SourceError if the target's URL can't be read."""
    live, folder = live_name(target.database_url), target.documents_dir.resolve()
    return Places(
        live_name=live,
        staging_name=derived_name(live, "restore", restore_id),
        kept_name=derived_name(live, "before", restore_id),
        live_folder=folder,
        other_folder=folder.parent / f".{folder.name}_restore_{restore_id.hex[:12]}",
    )


def live_name(url: str) -> str:
    """Return the name of the database that a libpq URL leads to; the server is asked only where the URL doesn't say."""
    parameters = read_url(url)
    if name := parameters.get("dbname"):
        return str(name)
    with connect(url, "restore") as connection:
        return connection.info.dbname


def foreign(journal: Journal, target: Source) -> str:
    """Return a sentence if a journal is not one of a restore into the target, else ""."""
    its = places(target, journal.restore_id)
    says: list[tuple[object, list[str | None]]] = [
        (journal.staging_database, [None, its.staging_name]),
        (journal.staging_folder, [None, str(its.other_folder)]),
    ]
    if journal.database is not None:
        says += [(journal.database.live_name, [its.live_name]), (journal.database.other_name, [its.kept_name])]
    if journal.folder is not None:
        says += [(journal.folder.live, [str(its.live_folder)]), (journal.folder.other, [str(its.other_folder)])]
    for said, expected in says:
        if said not in expected:
            return (
                f"The journal of the restore {journal.restore_id} is about {str(said)[:200]!r}, which is not where a "
                "restore into the present database and documents folder puts anything; nothing that it names was touched. "
                "If it was made with other settings, set those again to undo it or to let it expire. Otherwise remove it."
            )
    return ""
