"""Making the staged state live, undoing that, and cleaning up after a crash at any point, by the journal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg

from ..database.postgres import connect, one_line
from ..errors import EngineError, RestoreError
from ..preflight import Source
from ..progress import Meter, Progress
from . import journal as journals
from . import staging_database
from .exchange import exchange_databases, exchange_folders, is_live, mend_three_step_exchange
from .journal import DatabasePair, Journal
from .remove_tree import remove_tree
from .sql_loader import Connection
from .staging_database import maintenance

SESSIONS_END_SECONDS = 10.0


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
    except BaseException as error:
        _exchange_back(journal, state_dir, url, error)
        # What can't be dropped now is dropped by `recover`.
        with contextlib.suppress(EngineError, psycopg.Error, OSError):
            clear_staging(journals.write(state_dir, journal, step=journals.STAGING), state_dir, url)
        if isinstance(error, EngineError | psycopg.Error):
            raise RestoreError(f"{one_line(error)} The state before the restore is live again.") from error
        raise
    # The new state is live and well; a journal that can't be written now is finished by `recover`.
    with contextlib.suppress(RestoreError):
        journals.write(state_dir, journal, step=journals.KEPT)
    return gap


def _exchange_back(journal: Journal, state_dir: Path, url: str, reason: BaseException) -> None:
    try:
        exchange(journals.write(state_dir, journal, wanted="old", abandoned=True), url)
    except (EngineError, psycopg.Error) as error:
        raise RestoreError(
            f"{one_line(reason)} The swap is undone as soon as the database server answers again; until then the documents "
            "and the database may not belong together."
        ) from error


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
    _check_nothing_came_since(journal, target.database_url)
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


def _check_nothing_came_since(journal: Journal, url: str) -> None:
    with _connections(url, journal) as (connection, _):
        if not is_live(connection, journal, journal.wanted):
            raise RestoreError(
                "What is live is not what this restore left: a later one has taken its place. Undo that one first. "
                "Nothing was exchanged."
            )


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
        with maintenance(url, journal.restore_id) as connection:
            _drop_database(connection, pair, pair.old_oid if journal.wanted == "new" else pair.new_oid)
    if journal.folder is not None:
        remove_tree(Path(journal.folder.other))
    journals.remove(state_dir, journal)


def _drop_database(connection: Connection, pair: DatabasePair, oid: int) -> None:
    """Drop one of the two, whatever its name is by now, unless it is the live one."""
    for row in connection.execute("SELECT datname AS name FROM pg_database WHERE oid = %s", [oid]).fetchall():
        if row["name"] != pair.live_name:
            staging_database.drop(connection, row["name"], oid)


def clear_staging(journal: Journal, state_dir: Path, url: str) -> None:
    """Drop what a restore staged and did not swap in, and its journal. Raise EngineError if the server is away."""
    if journal.staging_database is not None or journal.sandbox:
        with maintenance(url, journal.restore_id) as connection:
            end_sessions(connection, journal.restore_id)
            if journal.database is not None:
                _drop_database(connection, journal.database, journal.database.new_oid)
            elif journal.staging_database is not None:
                staging_database.drop(connection, journal.staging_database)
            if journal.sandbox:
                staging_database.drop_sandbox(connection, journal.restore_id)
    if journal.staging_folder is not None:
        remove_tree(Path(journal.staging_folder))
    journals.remove(state_dir, journal)


def end_sessions(connection: Connection, restore_id: UUID) -> None:
    """End what a lost worker's sessions still do: a CREATE DATABASE under way would be finished after we have looked."""
    until = time.monotonic() + SESSIONS_END_SECONDS
    while time.monotonic() < until:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = %s AND usename = current_user AND pid <> pg_backend_pid()",
            [f"restore {restore_id}"],
        ).fetchall()
        if not ended:
            return
        time.sleep(0.05)


def commit_point(connection: Connection, journal: Journal, state_dir: Path) -> Journal:
    """Given the transaction of a restore in place, about to be committed, let the folder follow it whatever happens."""
    row = connection.execute("SELECT pg_current_xact_id()::text AS id").fetchone()
    assert row is not None
    journal = journals.write(state_dir, journal, step=journals.EXCHANGING, transaction=row["id"])
    if journal.folder is not None:
        exchange_folders(journal.folder, "new")
    return journal


def settle(journal: Journal, state_dir: Path, url: str) -> str:
    """Given a restore in place, make the folder follow its transaction, drop the rest, return what is live: new or old.

    Raise EngineError if the server can't tell yet.
    """
    assert journal.transaction is not None
    with maintenance(url, journal.restore_id) as connection:
        end_sessions(connection, journal.restore_id)
        wanted = "new" if _committed(connection, journal.transaction) else "old"
    if journal.folder is not None:
        mend_three_step_exchange(journal.folder)
        exchange_folders(journal.folder, wanted)
        remove_tree(Path(journal.folder.other))
    journals.remove(state_dir, journal)
    return wanted


def _committed(connection: Connection, transaction: str) -> bool:
    until = time.monotonic() + SESSIONS_END_SECONDS
    while time.monotonic() < until:
        try:
            row = connection.execute("SELECT pg_xact_status(%s::xid8) AS status", [transaction]).fetchone()
        except psycopg.errors.InvalidParameterValue:
            return False  # "in the future": the server crashed before it wrote anything of it
        if row is None or row["status"] is None:
            break
        if row["status"] != "in progress":
            return bool(row["status"] == "committed")
        time.sleep(0.05)
    raise RestoreError("The server can't tell yet how the restore's transaction ended; it will be asked again.")


def recover(state_dir: Path, target: Source, alive: frozenset[UUID] = frozenset()) -> list[Recovered]:
    """Given the journals, end every restore whose worker is lost (all but those in `alive`) and return how.

    What was staged only is dropped. A half-done exchange is finished as it was wanted. Raise RestoreError for the first
    that could not be ended, when all others are.
    """
    recovered: list[Recovered] = []
    problem: EngineError | psycopg.Error | None = None
    journals.remove_torn(state_dir, alive)
    for journal in journals.all_in(state_dir):
        if journal.restore_id in alive or journal.step == journals.KEPT:
            continue
        try:
            recovered.append(_recover(journal, state_dir, target.database_url))
        except (EngineError, psycopg.Error) as error:
            problem = problem or error
    if problem is not None:
        raise RestoreError(f"A restore whose worker was lost could not be ended: {one_line(problem)}") from problem
    return recovered


def _recover(journal: Journal, state_dir: Path, url: str) -> Recovered:
    before = "The worker was lost before the swap; the live state was never touched."
    finished = "The worker was lost during the swap, which was then finished."
    back = "The worker was lost during the swap, which was then undone."
    if journal.step == journals.STAGING:
        clear_staging(journal, state_dir, url)
        return Recovered(journal.restore_id, "undone", before)
    if journal.transaction is not None:
        wanted = settle(journal, state_dir, url)
        return Recovered(journal.restore_id, *(("completed", finished) if wanted == "new" else ("undone", back)))
    if journal.database is not None:
        with maintenance(url, journal.restore_id) as connection:
            end_sessions(connection, journal.restore_id)
    exchange(journal, url)
    with _connections(url, journal) as (connection, _):
        if not is_live(connection, journal, journal.wanted):
            raise RestoreError("A half-done swap could not be finished; see the operator's guide.")
    if journal.abandoned:
        clear_staging(journals.write(state_dir, journal, step=journals.STAGING), state_dir, url)
        return Recovered(journal.restore_id, "undone", back)
    journals.write(state_dir, journal, step=journals.KEPT)
    return Recovered(journal.restore_id, "completed" if journal.wanted == "new" else "undone", finished)
