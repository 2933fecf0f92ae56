"""Check the folders of documents and archives: permissions, location, and free space."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from app.config import Settings
from app.engine.archive.reader import open_stored
from app.engine.errors import ArchiveError, SourceError
from app.engine.source.preflight import check_documents, check_nesting, check_storage
from app.engine.system.folders import all_below, open_root
from app.extensions import db
from app.models import BackupHistory
from app.services.checkup.findings import Finding, fine, problem, warning
from app.services.history import archive_damage
from app.services.installation import restore_engine
from app.services.installation.source import source_of
from app.services.installation.storage import storage_of
from app.services.monitoring.health import next_backup_bytes

DOCUMENTS, STORAGE = "BACKUP_DOCUMENTS_DIR", "BACKUP_STORAGE_DIR"
LOOK_SECONDS = 3.0
ARCHIVES_LOOKED_AT = 10


def look(settings: Settings) -> Iterator[Finding]:
    """Yield the findings."""
    yield from _documents(settings.documents_dir)
    yield from _storage(settings)
    yield from _archives()
    yield from _signatures(settings)
    for text in restore_engine.journal_problems():
        yield problem(STORAGE, text, "Until then the state that this restore keeps is neither undone nor dropped.")


def _refused(check: Callable[[], None]) -> str | None:
    try:
        check()
    except SourceError as error:
        return error.problem.detail
    return None


def _documents(folder: Path) -> Iterator[Finding]:
    refusal = _refused(lambda: check_documents(folder))
    if refusal:
        yield problem(DOCUMENTS, refusal, "Until then no backup can be made.")
        return
    unreadable, others = _unreadable(folder)
    if unreadable:
        yield problem(
            DOCUMENTS,
            f"This user (uid {os.geteuid()}) may not read {unreadable}: each backup would miss it.",
            "Run web, worker and scheduler as the documents' owner, or give its group the right to read them.",
        )
    else:
        yield fine(DOCUMENTS, f"{folder} can be read.")
    if others is not None and os.geteuid() != 0:
        yield warning(
            DOCUMENTS,
            f"Some documents belong to another user (uid {others}) than this one (uid {os.geteuid()}): what is restored "
            "will belong to this one.",
            "Run this software as the documents' owner (in the compose file: BACKUP_UID and BACKUP_GID).",
        )
    yield from _swappable(folder)
    yield from _staging_room(folder)


def _unreadable(folder: Path) -> tuple[Path | None, int | None]:
    """Return a path below the folder that we may not read, or None, and another owner's uid, or None. Search for a few
    seconds at most."""
    until = time.monotonic() + LOOK_SECONDS
    others: int | None = None
    for place, name, path, info in all_below(open_root(folder)):
        if info is not None:
            if info.st_uid != os.geteuid():
                others = info.st_uid
            wanted = os.R_OK | os.X_OK if stat.S_ISDIR(info.st_mode) else os.R_OK
            is_kept = stat.S_ISDIR(info.st_mode) or stat.S_ISREG(info.st_mode)
            if is_kept and not os.access(name, wanted, dir_fd=place.fd):
                return folder / path, others
        if time.monotonic() > until:
            break
    return None, others


def _swappable(folder: Path) -> Iterator[Finding]:
    live = folder.resolve()
    if os.path.ismount(live) or live.stat().st_dev != live.parent.stat().st_dev:
        yield problem(
            DOCUMENTS,
            f"Documents can't be restored: {live} is a mount point of its own, which can't be renamed.",
            "Mount the folder above it instead, so that the documents are an ordinary folder inside the mount.",
        )
        return
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=live.parent) as one:
            os.rename(one, f"{one}.renamed")
            os.rename(f"{one}.renamed", one)
    except OSError as error:
        yield problem(
            DOCUMENTS,
            f"Documents can't be restored: in {live.parent} this user can't create and rename folders ({error.strerror}).",
            f"A restore is staged beside the documents and swapped with them: chown {os.geteuid()} {live.parent}",
        )
        return
    yield fine(DOCUMENTS, f"For restores: {live.parent} is on the same disk and can be written to.")


def _staging_room(folder: Path) -> Iterator[Finding]:
    try:
        done = select(BackupHistory.summary).where(BackupHistory.status == "completed", BackupHistory.kind != "uploaded")
        summary = db.session.scalar(done.order_by(BackupHistory.created_at.desc()).limit(1)) or {}
    except SQLAlchemyError:
        db.session.rollback()
        return
    needed, free = int(summary.get("documents_bytes") or 0), shutil.disk_usage(folder).free
    if free < needed:
        yield warning(
            DOCUMENTS,
            f"A restore stages {_gigabytes(needed)} of documents beside the live ones, but {_gigabytes(free)} are free.",
            "Free some space, or make the disk larger.",
        )


def _storage(settings: Settings) -> Iterator[Finding]:
    archives = storage_of(settings)
    folder = archives.folder
    source = source_of(settings)
    refusal = _refused(lambda: check_storage(folder)) or _refused(lambda: check_nesting(source, folder))
    if refusal:
        yield problem(STORAGE, refusal, "Until then no backup can be made.")
        return
    try:
        archives.try_write()
    except OSError as error:
        yield problem(
            STORAGE, f"A file in {folder} can't be written and flushed: {error.strerror}.", "Check the disk and its mount."
        )
        return
    yield fine(STORAGE, f"{folder} can be written to, and the disk accepts a flush (fsync).")
    if folder.stat().st_mode & 0o077:
        yield warning(
            STORAGE, f"Other users of this machine may read {folder}; archives contain all data.", f"chmod 700 {folder}"
        )
    free, needed = archives.free_space(), next_backup_bytes()
    if free < needed:
        text = f"Only {_gigabytes(free)} are free in {folder}; the next backup needs about {_gigabytes(needed)}."
        yield problem(STORAGE, text, "Free some space, lower the quotas, or move BACKUP_STORAGE_DIR.")
    else:
        yield fine(STORAGE, f"{_gigabytes(free)} are free; the next backup needs about {_gigabytes(needed)}.")
    if settings.documents_dir.is_dir() and folder.stat().st_dev == settings.documents_dir.stat().st_dev:
        yield warning(
            STORAGE,
            "The archives are on the same disk as the documents: if it fails, both are lost.",
            "Move them to another disk, or copy them elsewhere regularly (rsync, rclone).",
        )


def _archives() -> Iterator[Finding]:
    """Compare every archive with the history."""
    try:
        rows = db.session.scalars(select(BackupHistory).where(BackupHistory.status == "completed")).all()
        found = [text for text in map(archive_damage.damage, rows) if text]
    except SQLAlchemyError:
        db.session.rollback()
        return
    for text in found[:ARCHIVES_LOOKED_AT]:
        yield problem(STORAGE, text, "Until then this backup protects nothing.")
    if len(found) > ARCHIVES_LOOKED_AT:
        more = f"{len(found) - ARCHIVES_LOOKED_AT} more archives are damaged or missing."
        yield problem(STORAGE, more, "Check that the right disk is mounted at BACKUP_STORAGE_DIR.")


def _signatures(settings: Settings) -> Iterator[Finding]:
    area = "BACKUP_SIGNING_KEY"
    ours = other = damaged = 0
    try:
        newest = list(reversed(storage_of(settings).archives(settings.app_name)))[:ARCHIVES_LOOKED_AT]
    except OSError:
        return
    for filename in newest:
        try:
            with open_stored(storage_of(settings), filename, settings.signing_key) as reader:
                signed = reader.manifest.signed
        except (ArchiveError, OSError):
            damaged += 1
        else:
            ours, other = ours + bool(signed), other + (not signed)
    if other and not ours:
        yield problem(
            area,
            f"None of the newest {other} archives is signed by this key: restores would treat them as foreign.",
            "Set BACKUP_SIGNING_KEY to the old key: the recovery sheet has it, or derive it from the old SECRET_KEY.",
        )
    elif other:
        yield warning(
            area,
            f"{other} of the newest {len(newest)} archives are not signed by this key.",
            "They may be uploads, or signed with an older key.",
        )
    elif ours:
        yield fine(area, f"The newest {ours} archive{'s are' if ours > 1 else ' is'} signed by this key.")
    if damaged:
        yield warning(
            STORAGE, f"{damaged} of the newest {len(newest)} archives are not in our format or damaged.", "Verify each one."
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
