"""`flask backup restore --file`, for when everything but an archive is lost. Needs neither Redis nor the metadata database,
nor their settings; with the signing key (BACKUP_SIGNING_KEY, or SECRET_KEY) it can prove that the archive is ours.
`undo` and `discard` with `--documents` swap back or drop the state that such a restore keeps.
"""

from __future__ import annotations

import os
import secrets
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit
from uuid import UUID, uuid4

import click
from psycopg import conninfo

from app.cli.errors import OF_ENGINE, fail, one_line
from app.cli.formats import size
from app.cli.restore_text import diff_lines, troubles
from app.config import name_settings, read_signing_key
from app.engine.errors import RestoreError
from app.engine.restore import swap
from app.engine.restore.places.journal import KEPT, Journal, all_in
from app.engine.restore.preview import preview as previewing
from app.engine.restore.recovery import recover
from app.engine.restore.request import RestoreRequest
from app.engine.restore.restore import FileRestore, restore_from_file
from app.engine.restore.swap import survey_journals
from app.engine.source.preflight import Source

# A journal's step while live and kept state are exchanged.
EXCHANGING = "exchanging"


@dataclass(frozen=True)
class FileOptions:
    """The options of `flask backup restore --file`."""

    archive: Path
    url: str | None
    documents: Path | None
    scope: str
    trust: bool
    dry_run: bool
    yes: bool


def run(options: FileOptions) -> None:
    """Restore an archive, or with `dry_run` say what that would change. End the process with one line on failure."""
    url, documents = _target(options.url, options.documents, "--file")
    with one_line(OF_ENGINE, _wording(url)):
        # Without a key nothing is signed by it: any key that nobody knows says so.
        key = read_signing_key() or secrets.token_bytes(32)
        _restore(options, url, documents, key)


def undo(restore_id: UUID | None, url: str | None, documents: Path | None) -> None:
    """Swap the live state and the one that a restore from a file (None: the only one) keeps.
    End the process with one line on failure."""
    url, documents = _target(url, documents, "undo without the history")
    with one_line(OF_ENGINE, _wording(url)):
        journal = _kept(restore_id, url, documents)
        swap.undo(_state_dir(documents), journal.restore_id, Source(url, documents, "restore"))
        journal = _kept(journal.restore_id, url, documents)
        state = "The state before the restore" if journal.wanted == "old" else "The restored state"
        click.echo(f"{state} is live again. The other state is kept: another undo swaps them back.")
        click.echo("\n".join(_way_back(journal, url, documents)))


def discard(restore_id: UUID | None, url: str | None, documents: Path | None, yes: bool) -> None:
    """Drop the state that a restore from a file (None: the only one) keeps. End the process with one line on failure."""
    url, documents = _target(url, documents, "discard")
    with one_line(OF_ENGINE, _wording(url)):
        journal = _kept(restore_id, url, documents)
        click.echo(f"kept      {_places(journal)}")
        if not yes and not click.confirm("Drop it? This cannot be undone."):
            fail("Nothing was dropped.", _wording(url))
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


def _restore(options: FileOptions, url: str, documents: Path, key: bytes) -> None:
    target = Source(url, documents, "restore")
    look = RestoreRequest(options.archive, target, _state_dir(documents), key, uuid4(), options.scope, options.trust)
    found = previewing.preview(look, exact=options.dry_run)
    click.echo(name_settings("\n".join([*diff_lines(found), *troubles(found.blockers, found.warnings, found.code)])))
    if options.dry_run:
        sys.exit(1 if found.blockers else 0)
    if found.blockers:
        fail(" ".join(found.blockers), _wording(url))
    name = str(conninfo.conninfo_to_dict(url).get("dbname") or "")
    if not options.yes and click.prompt(f"Type the name of the database to restore it ({name})") != name:
        fail("That is not the name of the database; nothing was changed.", _wording(url))
    before = {journal.restore_id for journal in all_in(_state_dir(documents))}
    chosen = FileRestore(options.archive, url, documents, key, scope=options.scope, trusted=options.trust)
    result = restore_from_file(chosen, _Shown())
    for table in result.tables:
        click.echo(f"{table.schema}.{table.name}: {table.rows_backup} rows")
    for text in result.code:
        click.echo(f"code      {text}")
    click.echo(name_settings("\n".join(f"warning   {text}" for text in result.warnings)) or "No warnings.")
    click.echo(f"Restored: {len(result.tables)} tables, {result.documents_after} documents.")
    if not result.undo_possible:
        click.echo("The previous state was not kept: this restore ran inside the live database.")
    for journal in all_in(_state_dir(documents)):
        if journal.restore_id not in before and journal.step == KEPT:
            click.echo("\n".join(_way_back(journal, url, documents)))


def _kept(restore_id: UUID | None, url: str, documents: Path) -> Journal:
    """Return the journal that is meant, after finishing an interrupted swap. Raise RestoreError if that is ambiguous."""
    folder = _state_dir(documents)
    if any(journal.step == EXCHANGING for journal in all_in(folder)):
        recover(folder, Source(url, documents, "restore"))
    kept = {journal.restore_id: journal for journal in all_in(folder) if journal.step == KEPT}
    if restore_id is None and len(kept) > 1:
        choices = "\n".join(f"{journal.restore_id}  {_places(journal)}" for journal in reversed(kept.values()))
        raise RestoreError(f"Several restores keep a previous state. Give the id of one; the latest is first:\n{choices}")
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
    """Print each phase once; a progress callback of the engine."""

    def __init__(self) -> None:
        self._phase = ""

    def __call__(self, phase: str, bytes_done: int, bytes_total: int | None) -> None:  # noqa: ARG002 - the engine's Progress
        if phase != self._phase:
            self._phase = phase
            click.echo(f"{phase} ({size(bytes_total)})" if bytes_total else phase)


def _wording(url: str) -> Callable[[str], str]:
    """Make a function that names settings in a message and hides the password of a database's URL."""
    password = urlsplit(url).password or ""
    hidden = [secret for secret in {password, unquote(password)} if secret]

    def reworded(message: str) -> str:
        for secret in hidden:
            message = message.replace(secret, "***")
        return name_settings(message)

    return reworded
