"""`flask retention`."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from app.cli.common import actor, checked, stop
from app.cli.formats import moment, size
from app.services.inputs import PlanInput
from app.services.inputs import checked as checked_input
from app.services.retention import cleanup as cleaning
from app.services.retention import retention as rules

retention = AppGroup("retention", help="Which backups are kept, and why.")


@retention.command()
@click.option("--keep-hourly", type=int, help="Try this quota instead of the stored one.")
@click.option("--keep-daily", type=int)
@click.option("--keep-weekly", type=int)
@click.option("--keep-monthly", type=int)
@checked
def plan(**quotas: int | None) -> None:
    """Say what is kept and what the next cleanup deletes, newest first. Changes nothing."""
    found = rules.plan(checked_input(PlanInput, {name: value for name, value in quotas.items() if value is not None}))
    entries = sorted([*found.kept, *found.deleted], key=lambda entry: (entry.started_at, str(entry.backup_id)), reverse=True)
    for entry in entries:
        word = "keep  " if entry.keep else "DELETE"
        click.echo(f"{word} {moment(entry.started_at)}  {size(entry.size_bytes):>8}  {entry.filename}  {entry.text}")
    kept, leaving = size(found.kept_bytes), size(found.deleted_bytes)
    click.echo(f"{len(found.kept)} kept ({kept}), {len(found.deleted)} to be deleted ({leaving}).")
    if found.missing:
        click.echo(f"{len(found.missing)} backups have no file in the storage folder and count for nothing.")
    if found.damaged:
        click.echo(f"{len(found.damaged)} backups have a damaged file and count for nothing.")
    for ahead in found.forecast:
        click.echo(f"On {ahead.at:%Y-%m-%d} there will be {ahead.backups} backups, about {size(ahead.bytes)}.")


@retention.command()
@checked
def cleanup() -> None:
    """Delete now what no quota protects."""
    report = cleaning.cleanup(actor())
    if report is None:
        stop("A cleanup is already running. Wait until it has finished.")
    for name in report.deleted:
        click.echo(f"deleted {name}")
    for name in report.in_use:
        click.echo(f"in use  {name}")
    for name in report.orphans:
        click.echo(f"unlisted {name}: `flask backup rescan` lists it again")
    click.echo(f"{len(report.deleted)} deleted, {size(report.freed_bytes)} freed.")
    if report.trouble:
        stop("\n".join(report.trouble))
