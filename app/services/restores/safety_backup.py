"""The backup of the live state that a restore makes first, so that there is a way back even after its undo has expired."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from app import current
from app.engine.archive.reader import read_manifest
from app.extensions import db
from app.runs import ledger, locks, restore_steps
from app.services.backups import backup_run, backups

PHASE = "safety_backup"
OVERRIDE = "Fix that, or restore without a safety backup if there is nothing left to lose."
# The rows of each table (schema, name).
Counts = dict[tuple[str, str], int]


class NotMade(Exception):
    """The safety backup failed or was cancelled. str() says why, and what to do."""


def make(restore_id: UUID, attempt: int, held: Sequence[locks.Lock], requested_by: str, filename: str) -> Counts:
    """Make the safety backup of our attempt at a restore, under its locks. Return the number of rows it found in each table.

    `filename` is the archive that is about to be restored. Raise NotMade, or ledger.Lost or Cancelled if that ended the
    restore.
    """
    safety = ledger.backups.open(requested_by, kind="safety", note=f"Before the restore of {filename}")
    db.session.flush()
    restore_steps.link_safety_backup(restore_id, attempt, safety.id)
    db.session.commit()
    safety_id = safety.id

    def watch(bytes_done: int, bytes_total: int | None) -> None:
        try:
            ledger.restores.progress(restore_id, attempt, PHASE, bytes_done, bytes_total)
        except ledger.Lost as error:
            raise ledger.Cancelled(str(error)) from error

    with locks.holding(locks.run_name(safety_id)) as alive:
        if alive is not None:
            backup_run.claim_and_make(safety_id, [*held, alive], watch)
    made = backups.get(safety_id)
    if made.status != "completed":
        # Was it the restore that was cancelled?
        ledger.restores.progress(restore_id, attempt, PHASE, 0, None)
        reason = made.error or f"It is {made.status}."
        raise NotMade(f"The safety backup was not made, so nothing was restored: {reason} {OVERRIDE}")
    manifest = read_manifest(backups.archive_file(safety_id).path, current.settings().signing_key)
    return {(table.schema, table.name): table.rows for table in manifest.database.readable_tables}
