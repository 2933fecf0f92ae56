"""`flask backup`."""

from __future__ import annotations

import sys
from uuid import UUID

import click
from flask.cli import AppGroup

from app.cli.backup_text import describe, line, progress_line
from app.cli.common import actor, checked, stop
from app.cli.follow import follow
from app.models.backup_history import KINDS, LIVE, STATUSES
from app.runs import queue
from app.services.backups import backups
from app.services.recovery.rescan import rescan as rescan_archives

backup = AppGroup("backup", help="Make, list and check backups.")
NO_WORKER = "No worker is running, so nothing happens yet. Start one with `flask worker`."


@backup.command()
@click.option("--wait", is_flag=True, help="Show the progress; end with an error if the backup fails.")
@click.option("--note", help="A note to store with it.")
@checked
def create(wait: bool, note: str | None) -> None:
    """Start a backup; a worker runs it."""
    row = backups.start(actor(), note=note)
    click.echo(f"Backup {row.id} is queued.")
    if not queue.has_worker(queue.BACKUPS):
        click.echo(NO_WORKER, err=True)
    if wait:
        _wait_for_backup(row.id)


@backup.command("list")
@click.option("--page", default=1, type=click.IntRange(1), show_default=True)
@click.option("--page-size", default=20, type=click.IntRange(1, 100), show_default=True)
@click.option("--status", type=click.Choice(STATUSES))
@click.option("--kind", type=click.Choice(KINDS))
@checked
def list_(page: int, page_size: int, status: str | None, kind: str | None) -> None:
    """List the backups, newest first."""
    found = backups.list_backups(page, page_size, status=status, kind=kind)
    for row in found.items:
        click.echo(line(row))
    click.echo(f"Page {found.page} of {found.pages}, {found.total} in all.")


@backup.command()
@click.argument("backup_id", type=click.UUID)
@checked
def show(backup_id: UUID) -> None:
    """Show everything known about one backup."""
    click.echo(describe(backups.get(backup_id)))


@backup.command()
@click.argument("backup_id", type=click.UUID)
@click.option("--restore", is_flag=True, help="Load it into a scratch database, too: that proves that it restores.")
@checked
def verify(backup_id: UUID, restore: bool) -> None:
    """Have a worker verify the archive, and wait for the result."""
    backups.verify(actor(), backup_id, restore=restore)
    if not queue.has_worker(queue.BACKUPS):
        click.echo(NO_WORKER, err=True)
    row = follow(lambda: backups.get(backup_id), lambda row: row.verify_requested_at is not None, progress_line)
    if row.verified_at is None or row.error:
        stop(row.error or "The verification was interrupted. Try again.")
    click.echo(f"{row.filename} matches its manifest (verified at {row.verified_at:%Y-%m-%d %H:%M:%S} UTC).")
    if restore:
        click.echo(f"It was restored into a scratch database in {row.restore_test_seconds:.1f} s.")


@backup.command()
@checked
def rescan() -> None:
    """Rebuild the list of backups from the archives in the storage folder."""
    report = rescan_archives(actor(), progress=lambda name: click.echo(f"Reading {name} …"))
    for finding in report.findings:
        click.echo(f"{finding.outcome:<9} {finding.filename}{'  ' + finding.detail if finding.detail else ''}")
    added, trouble = report.of("added"), report.of("corrupt", "missing")
    click.echo(f"{len(added)} added (pinned), {len(report.of('known'))} known, {len(trouble)} to check.")
    sys.exit(1 if trouble else 0)


def _wait_for_backup(backup_id: UUID) -> None:
    row = follow(lambda: backups.get(backup_id), lambda row: row.status in LIVE, progress_line)
    if row.status == "cancelled":
        stop("The backup was cancelled.")
    if row.status != "completed":
        stop(f"The backup failed: {row.error}")
    click.echo(describe(row))
