"""`flask backup restore --file`: for the day when everything but an archive is gone. Needs neither Redis nor the metadata
database, nor their settings; with the signing key (BACKUP_SIGNING_KEY, or SECRET_KEY) the archive proves that it is ours.
"""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import click
import psycopg
from psycopg import conninfo

from app import engine
from app.cli.text import size
from app.cli.text_restore import diff_lines, troubles
from app.config import ConfigError, read_signing_key


@dataclass(frozen=True)
class Order:
    """What was asked for on the command line."""

    archive: Path
    url: str | None
    documents: Path | None
    scope: str
    trust: bool
    dry_run: bool
    yes: bool


def run(order: Order) -> None:
    """Given an order, restore its archive, or say what that would do. Ends the process with 1 and a line if it can't."""
    url = order.url or os.environ.get("BACKUP_SOURCE_URL")
    folder = order.documents or os.environ.get("BACKUP_DOCUMENTS_DIR")
    if not url or not folder:
        raise click.UsageError("--file needs --to URL and --documents DIR (or BACKUP_SOURCE_URL and BACKUP_DOCUMENTS_DIR).")
    try:
        # Without a key nothing is signed by it: any key that nobody knows says so.
        key = read_signing_key() or secrets.token_bytes(32)
        _restore(order, url, Path(folder), key)
    except (engine.EngineError, ConfigError, psycopg.Error, OSError) as error:
        _stop(str(error), url)


def _restore(order: Order, url: str, documents: Path, key: bytes) -> None:
    documents = documents.resolve()
    target = engine.Source(url, documents, "restore")
    look = engine.RestoreRequest(order.archive, target, _state_dir(documents), key, uuid4(), order.scope, order.trust)
    found = engine.preview(look, exact=order.dry_run)
    click.echo("\n".join([*diff_lines(found), *troubles(found.blockers, found.warnings, found.code)]))
    if order.dry_run:
        sys.exit(1 if found.blockers else 0)
    if found.blockers:
        _stop(" ".join(found.blockers), url)
    name = str(conninfo.conninfo_to_dict(url).get("dbname") or "")
    if not order.yes and click.prompt(f"Type the name of the database to restore it ({name})") != name:
        _stop("That is not its name; nothing was changed.", url)
    result = engine.restore_from_file(order.archive, url, documents, key, order.trust, _Shown(), order.scope)
    for table in result.tables:
        click.echo(f"{table.schema}.{table.name}: {table.rows_backup} rows")
    click.echo("\n".join(f"warning   {text}" for text in result.warnings) or "No warnings.")
    click.echo(f"Restored: {len(result.tables)} tables, {result.documents_after} documents.")
    if result.undo_possible:
        click.echo(f"The state before is kept beside it; the journal in {_state_dir(documents)} says under which names.")


def _state_dir(documents: Path) -> Path:
    return documents.parent / f".{documents.name}_restores"


class _Shown:
    """A progress callback that prints each phase once."""

    def __init__(self) -> None:
        self._phase = ""

    def __call__(self, phase: str, bytes_done: int, bytes_total: int | None) -> None:
        if phase != self._phase:
            self._phase = phase
            click.echo(f"{phase} ({size(bytes_total)})" if bytes_total else phase)


def _stop(message: str, url: str) -> NoReturn:
    password = urlsplit(url).password or ""
    for secret in filter(None, {password, unquote(password)}):
        message = message.replace(secret, "***")
    click.echo(message, err=True)
    sys.exit(1)
