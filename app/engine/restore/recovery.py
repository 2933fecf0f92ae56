"""Ends restores whose worker was lost, by their journals: staging is dropped, a swap is finished or undone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg

from ..errors import EngineError, RestoreError
from ..source.postgres import Connection, one_line
from ..source.preflight import Source
from .places import journal as journals
from .places.contents import database_losses, folder_losses, looking_at
from .places.exchange import Gone, is_folder, is_live, name_of, repair_three_step_exchange
from .places.journal import Journal
from .places.staging_database import maintenance, with_database
from .swap import clear_staging, connections, end_sessions, exchange, keep, settle, survey_journals

_WAS_USED = """
SELECT coalesce((SELECT (to_jsonb(s) ->> 'sessions')::bigint > 0 FROM pg_stat_database s WHERE datid = %(oid)s), true)
    OR EXISTS (SELECT FROM pg_stat_activity WHERE datid = %(oid)s AND backend_type = 'client backend') AS used
"""


@dataclass(frozen=True)
class Recovered:
    """What was found of a restore whose worker was lost, and how it ended: "completed", "undone" or "void".

    `loss`: what the new state lacked, so that it was undone. `changes`: how the new state, in use meanwhile, differs from
    what was restored.
    """

    restore_id: UUID
    outcome: str
    detail: str
    loss: str = ""
    changes: str = ""


def recover(state_dir: Path, target: Source, alive: frozenset[UUID] = frozenset()) -> list[Recovered]:
    """End every restore whose worker is lost (all but those in `alive`), by the journals, and return how.

    What was staged only is dropped. A half-done swap is finished as it was wanted, or undone where the new state turns
    out not to be whole. Journals that can't be used are left to `survey_journals`. Raise RestoreError for the first restore
    that could not be ended, when all others are.
    """
    recovered: list[Recovered] = []
    problem: EngineError | psycopg.Error | OSError | None = None
    journals.remove_torn(state_dir, alive)
    for journal in survey_journals(state_dir, target).journals:
        if journal.restore_id in alive or journal.step == journals.KEPT:
            continue
        try:
            recovered.append(_recover(journal, state_dir, target.database_url))
        except Gone as error:
            journals.write(state_dir, journal, step=journals.VOID)
            recovered.append(Recovered(journal.restore_id, "void", str(error)))
        except (EngineError, psycopg.Error, OSError) as error:
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
    losses, changes = _compare(journal, url) if journal.wanted == "new" else ([], [])
    if losses:
        journal = journals.write(state_dir, journal, wanted="old", abandoned=True)
    exchange(journal, url)
    with connections(url, journal) as (connection, _):
        if not is_live(connection, journal, journal.wanted):
            raise RestoreError("A half-done swap could not be finished; see the operator's guide.")
    if journal.abandoned:
        clear_staging(journals.write(state_dir, journal, step=journals.STAGING), state_dir, url)
        return Recovered(journal.restore_id, "undone", back, loss=", ".join(losses))
    keep(journal, state_dir)
    outcome = "completed" if journal.wanted == "new" else "undone"
    return Recovered(journal.restore_id, outcome, finished, changes=", ".join(changes))


def _compare(journal: Journal, url: str) -> tuple[list[str], list[str]]:
    """Compare the new state with what was recorded of it; return as phrases what it lacks, and how it was changed by those
    who have used it since it is live. Raise EngineError if the server is away."""
    losses, changes, is_used = _compare_databases(journal, url)
    pair, contents = journal.folder, journal.folder_contents
    if pair is not None and contents is not None:
        repair_three_step_exchange(pair)
        if is_folder(pair.live, pair.new_inode):
            # Whoever writes documents uses the database, too; for documents alone there is no such sign.
            found = changes if is_used or journal.database is None else losses
            found += folder_losses(Path(pair.live), contents)
        elif is_folder(pair.other, pair.new_inode):
            losses += folder_losses(Path(pair.other), contents)
        else:
            losses.append("the folder of its documents is gone")
    return losses, changes


def _compare_databases(journal: Journal, url: str) -> tuple[list[str], list[str], bool]:
    """Return what the new database lacks, how it was changed, and whether it is live and was used."""
    pair, contents = journal.database, journal.database_contents
    if pair is None or contents is None:
        return [], [], False
    with maintenance(url, journal.restore_id) as connection:
        name = name_of(connection, pair.new_oid)
        is_live_now = name == pair.live_name
        is_used = is_live_now and _was_used(connection, pair.new_oid)
    if name is None:
        return ["its database is gone"], [], False
    try:
        with looking_at(with_database(url, name), journal.restore_id) as inside:
            found = database_losses(inside, contents, rows=not is_used, unlogged=not is_live_now)
    except (EngineError, psycopg.Error) as error:
        if is_live_now:
            raise
        found = [f"its database can't be read: {one_line(error)}"]
    return ([], found, True) if is_used else (found, [], False)


def _was_used(connection: Connection, oid: int) -> bool:
    """Return whether a database was used since the server's last crash, which resets these statistics."""
    row = connection.execute(_WAS_USED, {"oid": oid}).fetchone()
    return row is None or bool(row["used"])
