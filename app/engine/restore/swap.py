"""Makes the staged state live, undoes that, and drops what is no longer needed, by the journal."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import UUID

import psycopg

from ..errors import EngineError, RestoreError, SourceError
from ..progress import Meter, Progress
from ..source.postgres import CANCEL_SECONDS, Connection, connect, one_line
from ..source.preflight import Source
from ..storage.local import sync_folder
from .places import journal as journals
from .places import staging_database
from .places.contents import flush_wal
from .places.derived_names import foreign
from .places.exchange import (
    Gone,
    exchange_databases,
    exchange_folders,
    inode,
    is_folder,
    is_live,
    live_oid,
    name_of,
    repair_three_step_exchange,
)
from .places.journal import Journal
from .places.remove_tree import remove_tree
from .places.staging_database import maintenance, with_database

SESSIONS_END_SECONDS = 10.0
MOST_KEPT = 3
"""How many restores keep the other state for an undo. Each takes as much space as the live database and documents."""


@contextlib.contextmanager
def connections(url: str, journal: Journal) -> Iterator[tuple[Connection | None, Connection | None]]:
    """Yield two maintenance connections if the journal is about a database, else none."""
    if journal.database is None:
        yield None, None
        return
    with maintenance(url, journal.restore_id) as connection, maintenance(url, journal.restore_id) as helper:
        yield connection, helper


def swap_in(journal: Journal, state_dir: Path, url: str, meter: Meter | None) -> float:
    """Make a finished staging live and check it. Return for how many seconds the database was away.

    Raise RestoreError if the new state does not answer: the old one is live again then.
    """
    _flush(journal, url, meter)
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
        keep(journal, state_dir)
    return gap


def _flush(journal: Journal, url: str, meter: Meter | None) -> None:
    """Have the server write all that was loaded to its disk: from now on a crash may make it live. The documents are on
    theirs since they were staged."""
    if journal.database is None:
        return
    try:
        with maintenance(url, journal.restore_id) as connection:
            if meter is None:
                flush_wal(connection)
            else:
                cancel = partial(connection.cancel_safe, timeout=CANCEL_SECONDS)
                meter.during(partial(flush_wal, connection), cancel)
    except (SourceError, psycopg.Error) as error:
        raise RestoreError(
            f"The database server failed before the swap, so nothing was changed: {one_line(error)}"
        ) from error


def keep(journal: Journal, state_dir: Path) -> Journal:
    """Note that the wanted state is live, and that the other one is kept for an undo."""
    return journals.write(state_dir, journal, step=journals.KEPT, database_contents=None, folder_contents=None)


def _exchange_back(journal: Journal, state_dir: Path, url: str, reason: BaseException) -> None:
    try:
        exchange(journals.write(state_dir, journal, wanted="old", abandoned=True), url)
    except (EngineError, psycopg.Error) as error:
        raise RestoreError(
            f"{one_line(reason)} The swap is undone as soon as the database server answers again; until then the documents "
            "and the database may not belong together."
        ) from error


def exchange(journal: Journal, url: str) -> float:
    """Bring the wanted state of a journal in the step "exchanging" about, whatever part of it is done already."""
    gap = 0.0
    with connections(url, journal) as (connection, helper):
        if journal.database is not None:
            assert connection is not None
            assert helper is not None
            gap = exchange_databases(connection, helper, journal, journal.database)
        if journal.folder is not None:
            repair_three_step_exchange(journal.folder)
            exchange_folders(journal.folder, journal.wanted)
    return gap


def check_health(journal: Journal, url: str) -> None:
    """Connect as the app would, and raise RestoreError unless the wanted state answers.

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
    """Swap the live state with the one that a restore keeps. Done twice, the restored state is live again.

    Raise RestoreError if nothing is kept, or if it fails; the live state is then what it was.
    """
    journal = _kept(state_dir, restore_id, target)
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
        keep(journal, state_dir)
        raise RestoreError(f"{error} Nothing was swapped.") from error
    keep(journal, state_dir)


def _check_nothing_came_since(journal: Journal, url: str) -> None:
    with connections(url, journal) as (connection, _):
        if not is_live(connection, journal, journal.wanted):
            raise RestoreError(
                "What is live is not what this restore left: a later one has taken its place. Undo that one first. "
                "Nothing was swapped."
            )


def _kept(state_dir: Path, restore_id: UUID, target: Source) -> Journal:
    path = state_dir / f"{restore_id}.json"
    if not os.path.lexists(path):
        raise RestoreError("The state before this restore is no longer kept; restore its safety backup instead.")
    journal = journals.read(path)
    if journal.step != journals.KEPT:
        raise RestoreError("This restore is not finished; wait until it is.")
    if problem := foreign(journal, target):
        raise RestoreError(problem)
    return journal


def discard(state_dir: Path, restore_id: UUID, target: Source) -> list[str]:
    """Drop the state that a restore keeps for an undo, if it keeps any, and return which documents could not be removed.

    Those stay, each with its reason, and are forgotten here: trying again would not help.
    """
    if os.path.lexists(state_dir / f"{restore_id}.json"):
        return _drop_other(_kept(state_dir, restore_id, target), state_dir, target.database_url)
    return []


def _drop_other(journal: Journal, state_dir: Path, url: str) -> list[str]:
    """Drop the database and the folder that are not live, and the journal; return what had to stay."""
    left: list[str] = []
    if journal.database is not None:
        oids = journal.database.new_oid, journal.database.old_oid
        with maintenance(url, journal.restore_id) as connection:
            _drop_database(connection, journal, oids[journal.wanted == "new"])
    if journal.folder is not None:
        inodes = journal.folder.new_inode, journal.folder.old_inode
        left = _remove_folder(Path(journal.folder.other), inodes[journal.wanted == "new"])
    journals.remove(state_dir, journal)
    return left


def _drop_database(connection: Connection, journal: Journal, oid: int) -> None:
    """Drop a database of this restore: the one with this oid, if it still bears a name that this restore gave it."""
    names = [journal.staging_database, journal.database.other_name if journal.database is not None else None]
    name = name_of(connection, oid)
    if name is not None and name in names:
        staging_database.drop(connection, name, oid)


def _remove_folder(path: Path, known: tuple[int, int]) -> list[str]:
    """Remove the folder at a path if it is the one that was known by its (device, inode), and return what had to stay."""
    if not is_folder(path, known):
        return []
    left = remove_tree(path, inode(path))
    sync_folder(path.parent)  # before the journal is forgotten, which may be on another disk
    return left


def clear_staging(journal: Journal, state_dir: Path, url: str) -> None:
    """Drop what a restore staged and did not swap in, and its journal. Raise EngineError if the server is away."""
    # A journal of an older version names both only in the pairs that were to be swapped.
    oid = journal.staging_oid or (journal.database.new_oid if journal.database is not None else None)
    known = journal.staging_inode or (journal.folder.new_inode if journal.folder is not None else None)
    if journal.staging_database is not None or journal.sandbox:
        with maintenance(url, journal.restore_id) as connection:
            end_sessions(connection, journal.restore_id)
            if oid is not None:
                _drop_database(connection, journal, oid)
            elif journal.staging_database is not None:
                _drop_empty(connection, url, journal.staging_database)
            if journal.sandbox:
                staging_database.drop_sandbox(connection, journal.restore_id)
    if journal.staging_folder is not None:
        if known is not None:
            _remove_folder(Path(journal.staging_folder), known)
        else:
            with contextlib.suppress(OSError):  # made just before the journal could note its inode
                os.rmdir(journal.staging_folder)
    journals.remove(state_dir, journal)


def _drop_empty(connection: Connection, url: str, name: str) -> None:
    """Drop a database whose oid did not get into the journal: it is still empty."""
    oid = live_oid(connection, name)
    if oid is None:
        return
    with connect(with_database(url, name), "restore clean-up") as inside:
        row = inside.execute("SELECT EXISTS (SELECT FROM pg_class WHERE oid >= 16384) AS filled").fetchone()
    if row is not None and not row["filled"]:
        staging_database.drop(connection, name, oid)


def end_sessions(connection: Connection, restore_id: UUID) -> None:
    """End the sessions of a lost worker: a CREATE DATABASE in progress could otherwise finish after the clean-up."""
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


def commit_point(connection: Connection, journal: Journal, state_dir: Path, url: str) -> Journal:
    """Record the open transaction of a restore in place before its commit, so that the folder follows it after a crash.

    What the transaction has written so far must be in the WAL on the disk before the journal names it: a server that forgot
    it in a crash would give its id to another transaction, whose commit would be taken for that of the restore.
    """
    row = connection.execute("SELECT pg_current_xact_id()::text AS id").fetchone()
    assert row is not None
    with maintenance(url, journal.restore_id) as other:
        flush_wal(other)
    journal = journals.write(state_dir, journal, step=journals.EXCHANGING, transaction=row["id"])
    if journal.folder is not None:
        exchange_folders(journal.folder, "new")
    return journal


def settle(journal: Journal, state_dir: Path, url: str) -> str:
    """Make the folder of a restore in place follow its transaction, and drop the rest. Return what is live: "new" or "old".

    Raise EngineError if the server does not know yet.
    """
    assert journal.transaction is not None
    with maintenance(url, journal.restore_id) as connection:
        end_sessions(connection, journal.restore_id)
        wanted = "new" if _committed(connection, journal.transaction) else "old"
    if journal.folder is not None:
        repair_three_step_exchange(journal.folder)
        exchange_folders(journal.folder, wanted)
        inodes = journal.folder.new_inode, journal.folder.old_inode
        _remove_folder(Path(journal.folder.other), inodes[wanted == "new"])
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
            raise Gone("The server no longer knows how the restore's transaction ended.")
        if row["status"] != "in progress":
            return bool(row["status"] == "committed")
        time.sleep(0.05)
    raise RestoreError("The server does not know yet how the restore's transaction ended; it will be asked again.")


def survey_journals(state_dir: Path, target: Source) -> journals.Found:
    """Read all journals. Those that are about another target are problems, as those are that can't be read.

    Raise SourceError if the target's URL doesn't name its database and the server is away.
    """
    found = journals.look(state_dir)
    problems = [foreign(journal, target) or _void(journal, state_dir) for journal in found.journals]
    usable = [journal for journal, problem in zip(found.journals, problems, strict=True) if not problem]
    return replace(found, journals=usable, problems=found.problems + list(filter(None, problems)))


def kept(state_dir: Path, target: Source) -> list[Journal]:
    """Return the journals of the restores that keep a state for an undo, oldest first."""
    return [journal for journal in survey_journals(state_dir, target).journals if journal.step == journals.KEPT]


def surplus(state_dir: Path, target: Source) -> list[UUID]:
    """Return the restores whose states are kept beyond the number of MOST_KEPT, oldest first: to be discarded."""
    return [journal.restore_id for journal in kept(state_dir, target)[:-MOST_KEPT]]


def _void(journal: Journal, state_dir: Path) -> str:
    if journal.step != journals.VOID:
        return ""
    return (
        f"The restore {journal.restore_id} was interrupted in its swap, and the database or the folder that its journal "
        "names no longer exists, so it could be neither finished nor undone. Make sure that database and documents belong "
        f"together, restore both if not, and then remove {journal.path(state_dir)}."
    )
