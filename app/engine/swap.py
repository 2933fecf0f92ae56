"""Making the staged state live, undoing that, and cleaning up after a crash at any point, by the journal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg

from . import journal as journals
from . import staging_database
from .errors import EngineError, RestoreError
from .exchange import exchange_databases, exchange_folders, is_live, mend_three_step_exchange
from .journal import Journal
from .postgres import connect, one_line
from .preflight import Source
from .progress import Meter, Progress
from .sql_loader import Connection
from .staging_database import maintenance
from .staging_documents import remove_tree


@dataclass(frozen=True)
class Recovered:
    """What was found of a restore whose worker was lost, and how it ended: "completed" or "undone"."""

    restore_id: UUID
    outcome: str
    detail: str


@contextlib.contextmanager
def _connections(url: str, journal: Journal) -> Iterator[tuple[Connection | None, Connection | None]]:
    """Yield two maintenance connections if the journal is about a database, else none."""
    if journal.database is None:
        yield None, None
        return
    with maintenance(url, journal.restore_id) as connection, maintenance(url, journal.restore_id) as helper:
        yield connection, helper


def swap_in(journal: Journal, state_dir: Path, url: str, meter: Meter | None) -> float:
    """Given a journal of a finished staging, make it live and check it; return the database's gap in seconds.

    Raise RestoreError if the new state does not answer: the old one is live again then.
    """
    journal = journals.write(state_dir, journal, step=journals.EXCHANGING, wanted="new")
    try:
        gap = exchange(journal, url)
        if meter is not None:
            meter.phase("health")
        check_health(journal, url)
    except EngineError as error:
        journal = journals.write(state_dir, journal, wanted="old")
        exchange(journal, url)
        _drop_other(journals.write(state_dir, journal, step=journals.STAGING), state_dir, url)
        raise RestoreError(f"{error} The state before the restore is live again.") from error
    journals.write(state_dir, journal, step=journals.KEPT)
    return gap


def exchange(journal: Journal, url: str) -> float:
    """Given a journal in the step exchanging, bring the wanted state about, whatever part of it is done already."""
    gap = 0.0
    with _connections(url, journal) as (connection, helper):
        if journal.database is not None:
            assert connection is not None
            assert helper is not None
            gap = exchange_databases(connection, helper, journal.database, journal.wanted)
        if journal.folder is not None:
            mend_three_step_exchange(journal.folder)
            exchange_folders(journal.folder, journal.wanted)
    return gap


def check_health(journal: Journal, url: str) -> None:
    """Connect as the app would and look whether the wanted state answers. Raise RestoreError if not.

    Reads catalogues only: what the backup brought is not executed here.
    """
    if journal.database is not None:
        wanted = journal.database.new_oid if journal.wanted == "new" else journal.database.old_oid
        try:
            with connect(url, f"restore {journal.restore_id} health check") as connection:
                row = connection.execute(
                    "SELECT d.oid::bigint AS oid, (SELECT count(*) FROM pg_class) AS relations"
                    " FROM pg_database d WHERE datname = current_database()"
                ).fetchone()
        except (EngineError, psycopg.Error) as error:
            raise RestoreError(f"The restored database does not answer: {one_line(error)}") from error
        if row is None or row["oid"] != wanted:
            raise RestoreError("The restored database is not the one that answers.")
    if journal.folder is not None and not Path(journal.folder.live).is_dir():
        raise RestoreError("The restored documents folder is not there.")


def undo(state_dir: Path, restore_id: UUID, target: Source, progress: Progress | None = None) -> None:
    """Given a restore whose old state is kept, exchange the two: done twice, it is as after the restore again.

    Raise RestoreError if there is nothing to exchange, or if it fails; the live state is then what it was.
    """
    journal = _kept(state_dir, restore_id)
    meter = Meter(progress)
    meter.phase("swap")
    before = journal.wanted
    journal = journals.write(state_dir, journal, step=journals.EXCHANGING, wanted="old" if before == "new" else "new")
    try:
        exchange(journal, target.database_url)
        meter.phase("health")
        check_health(journal, target.database_url)
    except EngineError as error:
        journal = journals.write(state_dir, journal, wanted=before)
        exchange(journal, target.database_url)
        journals.write(state_dir, journal, step=journals.KEPT)
        raise RestoreError(f"{error} Nothing was exchanged.") from error
    journals.write(state_dir, journal, step=journals.KEPT)


def _kept(state_dir: Path, restore_id: UUID) -> Journal:
    path = state_dir / f"{restore_id}.json"
    if not path.exists():
        raise RestoreError("The state before this restore is no longer kept; restore its safety backup instead.")
    journal = journals.read(path)
    if journal.step != journals.KEPT:
        raise RestoreError("This restore is not finished; wait until it is.")
    return journal


def discard(state_dir: Path, restore_id: UUID, target: Source) -> None:
    """Given a restore, drop the state that it keeps for an undo. Does nothing if none is kept."""
    if (state_dir / f"{restore_id}.json").exists():
        _drop_other(_kept(state_dir, restore_id), state_dir, target.database_url)


def _drop_other(journal: Journal, state_dir: Path, url: str) -> None:
    """Drop the database and the folder that are not live, and the journal."""
    pair = journal.database
    if pair is not None:
        other = pair.old_oid if journal.wanted == "new" else pair.new_oid
        with maintenance(url, journal.restore_id) as connection:
            for row in connection.execute("SELECT datname AS name FROM pg_database WHERE oid = %s", [other]).fetchall():
                if row["name"] != pair.live_name:
                    staging_database.drop(connection, row["name"], other)
    if journal.folder is not None:
        remove_tree(Path(journal.folder.other))
    clear_staging(journal, state_dir, url)


def clear_staging(journal: Journal, state_dir: Path, url: str) -> None:
    """Drop what a restore staged and did not swap in, and its journal. Raise EngineError if the server is away."""
    live_oid = None
    if journal.staging_database is not None or journal.sandbox:
        with maintenance(url, journal.restore_id) as connection:
            if journal.database is not None:
                live_oid = journal.database.new_oid if journal.wanted == "new" else journal.database.old_oid
            if journal.staging_database is not None:
                row = connection.execute(
                    "SELECT oid::bigint AS oid FROM pg_database WHERE datname = %s", [journal.staging_database]
                ).fetchone()
                if row is not None and row["oid"] != live_oid:
                    staging_database.drop(connection, journal.staging_database)
            if journal.sandbox:
                staging_database.drop_sandbox(connection, journal.restore_id)
    if journal.staging_folder is not None:
        remove_tree(Path(journal.staging_folder))
    journals.remove(state_dir, journal)


def recover(state_dir: Path, target: Source, alive: frozenset[UUID] = frozenset()) -> list[Recovered]:
    """Given the journals, end every restore whose worker is lost (all but those in `alive`) and return how.

    What was staged only is dropped. A half-done exchange is finished as it was wanted.
    """
    recovered: list[Recovered] = []
    for journal in journals.all_in(state_dir):
        if journal.restore_id in alive or journal.step == journals.KEPT:
            continue
        if journal.step == journals.STAGING:
            clear_staging(journal, state_dir, target.database_url)
            detail = "The worker was lost before the swap; the live state was never touched."
            recovered.append(Recovered(journal.restore_id, "undone", detail))
            continue
        exchange(journal, target.database_url)
        with _connections(target.database_url, journal) as (connection, _):
            if not is_live(connection, journal, journal.wanted):
                raise RestoreError("A half-done swap could not be finished; see the operator's guide.")
        journals.write(state_dir, journal, step=journals.KEPT)
        outcome = "completed" if journal.wanted == "new" else "undone"
        recovered.append(
            Recovered(journal.restore_id, outcome, "The worker was lost during the swap, which was then finished.")
        )
    return recovered
