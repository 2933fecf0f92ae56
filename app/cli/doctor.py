"""`flask doctor`."""

from __future__ import annotations

import sys

import click
from flask.cli import with_appcontext

from app import engine
from app.cli.common import application, settings
from app.config import ConfigError
from app.services import backups, health
from app.startup import check_start


@click.command()
@with_appcontext
def doctor() -> None:
    """Check the settings, the servers, the folders and the tools, and say what to do."""
    lines: list[tuple[bool, str]] = []
    try:
        check_start(application())
        lines.append((True, "DATABASE_URL: the metadata database is there, and is not the source."))
    except ConfigError as error:
        lines += [(False, problem) for problem in error.problems]
    problems = engine.check_source(backups.source(settings()), settings().storage_dir)
    lines += [(False, str(problem)) for problem in problems]
    if not problems:
        lines.append((True, "BACKUP_SOURCE_URL, BACKUP_DOCUMENTS_DIR, BACKUP_STORAGE_DIR: a backup can be made."))
    lines += [(check.ok, f"{check.name}: {check.detail}") for check in health.checks()]
    for fine, text in lines:
        click.echo(settings().redact(f"{'ok     ' if fine else 'PROBLEM'} {text}"))
    sys.exit(0 if all(fine for fine, _ in lines) else 1)
