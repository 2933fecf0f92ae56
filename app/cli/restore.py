"""`flask backup restore`, `undo` and `recovery-sheet`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from app.cli import restore_from_file
from app.cli.backup import NO_WORKER, backup
from app.cli.common import actor, checked, stop
from app.cli.follow import follow
from app.cli.restore_text import describe, preview_lines, progress_line
from app.models.backup_history import LIVE
from app.models.restores import SCOPES
from app.runs import queue
from app.services.recovery import recovery_sheet
from app.services.restores import restores

PASSWORD = (
    "It may omit the password: PGPASSWORD, or a file named by PGPASSFILE (default ~/.pgpass), keeps that off the screen."
)


@dataclass(frozen=True)
class Options:
    """The options of `flask backup restore`."""

    backup_id: UUID | None
    scope: str
    dry_run: bool
    wait: bool
    no_safety_backup: bool
    yes: bool
    archive: Path | None
    url: str | None
    documents: Path | None
    trust: bool

    def of_file(self, archive: Path) -> restore_from_file.FileOptions:
        """Return the options that apply to a restore from a file."""
        return restore_from_file.FileOptions(
            archive, self.url, self.documents, self.scope, self.trust, self.dry_run, self.yes
        )


@backup.command()
@click.argument("backup_id", type=click.UUID, required=False)
@click.option("--scope", type=click.Choice(SCOPES), default="all", show_default=True)
@click.option("--dry-run", is_flag=True, help="Only show what a restore would change.")
@click.option("--wait", is_flag=True, help="Show the progress; end with an error if the restore fails.")
@click.option("--no-safety-backup", is_flag=True, help="Make no safety backup first: the current state may be lost.")
@click.option("--yes", is_flag=True, help="Do not ask for the name of the database.")
@click.option("--file", "archive", type=click.Path(path_type=Path), help="Restore this archive, without Redis and history.")
@click.option("--to", "url", help=f"With --file: the database's URL. {PASSWORD}")
@click.option("--documents", type=click.Path(path_type=Path), help="With --file: the documents folder.")
@click.option("--trust", is_flag=True, help="With --file: execute the SQL of an archive that is not signed by our key.")
def restore(**options: Any) -> None:
    """Restore the backup BACKUP_ID, or an archive file when everything else is lost."""
    chosen = Options(**options)
    if chosen.archive is not None:
        restore_from_file.run(chosen.of_file(chosen.archive))
    elif chosen.backup_id is None:
        raise click.UsageError("Give the id of a backup, or --file ARCHIVE --to URL --documents DIR.")
    elif chosen.url or chosen.documents or chosen.trust:
        raise click.UsageError("--to, --documents and --trust go with --file.")
    else:
        _restore(chosen.backup_id, chosen)


@checked
def _restore(backup_id: UUID, chosen: Options) -> None:
    found = restores.preview(backup_id, chosen.scope, exact=chosen.dry_run)
    if chosen.dry_run or not chosen.yes:
        click.echo("\n".join(preview_lines(found)))
    if chosen.dry_run:
        sys.exit(1 if found.blockers else 0)
    if found.blockers:
        stop(" ".join(found.blockers))
    question = f"Type the name of the database to restore it ({found.confirm})"
    confirm = found.confirm if chosen.yes else click.prompt(question)
    row = restores.start(actor(), backup_id, confirm, chosen.scope, not chosen.no_safety_backup)
    click.echo(f"Restore {row.id} is queued.")
    if not queue.has_worker(queue.BACKUPS):
        click.echo(NO_WORKER, err=True)
    if chosen.wait:
        _wait_for(row.id)


def _wait_for(restore_id: UUID) -> None:
    row = follow(lambda: restores.get(restore_id), lambda row: row.status in LIVE, progress_line)
    if row.status != "completed":
        stop(f"The restore {row.status}: {row.error}" if row.error else f"The restore was {row.status}.")
    click.echo(describe(row))


@backup.command()
@click.argument("restore_id", type=click.UUID, required=False)
@click.option("--to", "url", help=f"After restore --file: the database's URL. {PASSWORD}")
@click.option("--documents", type=click.Path(path_type=Path), help="After restore --file: the documents folder.")
def undo(restore_id: UUID | None, url: str | None, documents: Path | None) -> None:
    """Swap the live state and the one before the last restore (or RESTORE_ID); a second undo swaps them back.

    With --to and --documents it undoes a `restore --file`, and needs neither Redis nor the metadata database.
    """
    if documents is not None:
        restore_from_file.undo(restore_id, url, documents)
    elif url:
        raise click.UsageError("--to goes with --documents: both name the targets of `restore --file`.")
    else:
        _undo(restore_id)


@checked
def _undo(restore_id: UUID | None) -> None:
    row = restores.undo(actor(), restore_id)
    state = "The state before the restore" if row.undone_at else "The restored state"
    click.echo(f"{state} is live again; the other state is kept until {row.undo_until:%Y-%m-%d %H:%M} UTC.")


@backup.command()
@click.argument("restore_id", type=click.UUID, required=False)
@click.option("--to", "url", help=f"The database's URL. {PASSWORD}")
@click.option("--documents", type=click.Path(path_type=Path), required=True, help="The documents folder.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def discard(restore_id: UUID | None, url: str | None, documents: Path, yes: bool) -> None:
    """Drop the state that a `restore --file` keeps for its undo. Needs neither Redis nor the metadata database."""
    restore_from_file.discard(restore_id, url, documents, yes)


@backup.command("recovery-sheet")
@checked
def print_recovery_sheet() -> None:
    """Print the recovery sheet, to be kept away from this machine: signing key, configuration, steps.

    Treat it like a password.
    """
    click.echo(recovery_sheet.text(actor()))
