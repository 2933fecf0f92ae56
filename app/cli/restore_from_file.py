"""`flask backup restore --file`: for the day when everything but an archive is gone. Needs neither Redis nor the metadata
database, nor their settings; with the signing key (BACKUP_SIGNING_KEY, or SECRET_KEY) the archive proves that it is ours.
`undo` and `discard` with `--documents` exchange and drop the state that such a restore keeps.
"""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit
from uuid import UUID, uuid4

import click
import psycopg
from psycopg import conninfo

from app.cli.formats import size
from app.cli.restore_text import diff_lines, troubles
from app.config import ConfigError, name_settings, read_signing_key
from app.engine.errors import EngineError, RestoreError
from app.engine.restore import swap
from app.engine.restore.places.journal import KEPT, Journal, all_in
from app.engine.restore.preview import preview as previewing
from app.engine.restore.request import RestoreRequest
from app.engine.restore.restore import FileRestore, restore_from_file
from app.engine.restore.swap import survey_journals
from app.engine.source.preflight import Source

# A journal's step while live and kept state are exchanged.
EXCHANGING = "exchanging"


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
    url, documents = _target(order.url, order.documents, "--file")
    with _one_line(url):
        # Without a key nothing is signed by it: any key that nobody knows says so.
        key = read_signing_key() or secrets.token_bytes(32)
        _restore(order, url, documents, key)


def undo(restore_id: UUID | None, url: str | None, documents: Path | None) -> None:
    """Given a restore from a file (None: the only one) and where it went, exchange the live state and the one it keeps.
    Ends the process with 1 and a line if it can't."""
    url, documents = _target(url, documents, "undo without the history")
    with _one_line(url):
        journal = _kept(restore_id, url, documents)
        swap.undo(_state_dir(documents), journal.restore_id, Source(url, documents, "restore"))
        journal = _kept(journal.restore_id, url, documents)
        state = "The state before the restore" if journal.wanted == "old" else "The restored state"
        click.echo(f"{state} is live again. The other one is kept: undo once more exchanges them again.")
        click.echo("\n".join(_way_back(journal, url, documents)))


def discard(restore_id: UUID | None, url: str | None, documents: Path | None, yes: bool) -> None:
    """Given a restore from a file (None: the only one) and where it went, drop the state that it keeps.
    Ends the process with 1 and a line if it can't."""
    url, documents = _target(url, documents, "discard")
    with _one_line(url):
        journal = _kept(restore_id, url, documents)
        click.echo(f"kept      {_places(journal)}")
        if not yes and not click.confirm("Drop it? There is no undo afterwards."):
            _stop("Nothing was dropped.", url)
        left = swap.discard(_state_dir(documents), journal.restore_id, Source(url, documents, "restore"))
        click.echo("It was dropped. What is live was not touched.")
        if left:
            click.echo("\n".join(["These documents had to stay; remove them by hand:", *left]))


def _target(url: str | None, documents: Path | None, what: str) -> tuple[str, Path]:
    url = url or os.environ.get("BACKUP_SOURCE_URL")
    folder = documents or os.environ.get("BACKUP_DOCUMENTS_DIR")
    if not url or not folder:
        raise click.UsageError(f"{what} needs --to URL and --documents DIR (or BACKUP_SOURCE_URL and BACKUP_DOCUMENTS_DIR).")
    return url, Path(folder).resolve()


@contextmanager
def _one_line(url: str) -> Iterator[None]:
    """End the process with what went wrong as one line."""
    try:
        yield
    except (EngineError, ConfigError, psycopg.Error, OSError) as error:
        _stop(str(error), url)


def _restore(order: Order, url: str, documents: Path, key: bytes) -> None:
    target = Source(url, documents, "restore")
    look = RestoreRequest(order.archive, target, _state_dir(documents), key, uuid4(), order.scope, order.trust)
    found = previewing.preview(look, exact=order.dry_run)
    click.echo(name_settings("\n".join([*diff_lines(found), *troubles(found.blockers, found.warnings, found.code)])))
    if order.dry_run:
        sys.exit(1 if found.blockers else 0)
    if found.blockers:
        _stop(" ".join(found.blockers), url)
    name = str(conninfo.conninfo_to_dict(url).get("dbname") or "")
    if not order.yes and click.prompt(f"Type the name of the database to restore it ({name})") != name:
        _stop("That is not its name; nothing was changed.", url)
    before = {journal.restore_id for journal in all_in(_state_dir(documents))}
    chosen = FileRestore(order.archive, url, documents, key, scope=order.scope, trusted=order.trust)
    result = restore_from_file(chosen, _Shown())
    for table in result.tables:
        click.echo(f"{table.schema}.{table.name}: {table.rows_backup} rows")
    for text in result.code:
        click.echo(f"code      {text}")
    click.echo(name_settings("\n".join(f"warning   {text}" for text in result.warnings)) or "No warnings.")
    click.echo(f"Restored: {len(result.tables)} tables, {result.documents_after} documents.")
    if not result.undo_possible:
        click.echo("The state before was not kept: this restore ran inside the live database.")
    for journal in all_in(_state_dir(documents)):
        if journal.restore_id not in before and journal.step == KEPT:
            click.echo("\n".join(_way_back(journal, url, documents)))


def _kept(restore_id: UUID | None, url: str, documents: Path) -> Journal:
    """Return the journal that is meant. A swap that was cut is ended first. Raise RestoreError if it is not clear."""
    folder = _state_dir(documents)
    if any(journal.step == EXCHANGING for journal in all_in(folder)):
        swap.recover(folder, Source(url, documents, "restore"))
    kept = {journal.restore_id: journal for journal in all_in(folder) if journal.step == KEPT}
    if restore_id is None and len(kept) > 1:
        choices = "\n".join(f"{journal.restore_id}  {_places(journal)}" for journal in reversed(kept.values()))
        raise RestoreError(f"Several restores keep a state; give the id of one, the last one is first:\n{choices}")
    if not kept or (restore_id is not None and restore_id not in kept):
        problems = survey_journals(folder, Source(url, documents, "restore")).problems
        sentences = [f"No restore from a file keeps a state beside {documents}: {folder} has no such journal.", *problems]
        raise RestoreError(" ".join(sentences))
    return kept[restore_id] if restore_id is not None else next(iter(kept.values()))


def _way_back(journal: Journal, url: str, documents: Path) -> list[str]:
    where = f"{journal.restore_id} --to {shlex.quote(_without_password(url))} --documents {shlex.quote(str(documents))}"
    return [
        f"kept      {_places(journal)}",
        f"undo      flask backup undo {where}",
        f"discard   flask backup discard {where}",
    ]


def _places(journal: Journal) -> str:
    places = [f"database {journal.database.other_name}"] if journal.database else []
    return ", ".join(places + ([f"documents {journal.folder.other}"] if journal.folder else []))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in ("password", "sslpassword")]
    return urlunsplit((parts.scheme, user.partition(":")[0] + at + host, parts.path, urlencode(query), ""))


def _state_dir(documents: Path) -> Path:
    return documents.parent / f".{documents.name}_restores"


class _Shown:
    """A progress callback that prints each phase once."""

    def __init__(self) -> None:
        self._phase = ""

    def __call__(self, phase: str, bytes_done: int, bytes_total: int | None) -> None:  # noqa: ARG002 - the engine's Progress
        if phase != self._phase:
            self._phase = phase
            click.echo(f"{phase} ({size(bytes_total)})" if bytes_total else phase)


def _stop(message: str, url: str) -> NoReturn:
    password = urlsplit(url).password or ""
    for secret in filter(None, {password, unquote(password)}):
        message = message.replace(secret, "***")
    click.echo(name_settings(message), err=True)
    sys.exit(1)
