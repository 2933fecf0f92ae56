"""Swaps the live database and folder with the ones beside them, in either direction, and finishes that after a crash.

The database goes first and in one transaction; the folder follows at once. After a crash between the two, `recovery.recover`
finishes, because the journal says what was wanted before anything was touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
from psycopg import sql

from ...errors import RestoreError
from ...source.postgres import Connection, one_line
from ...storage.local import sync_folder
from .journal import DatabasePair, FolderPair, Journal

EXCHANGE_ATTEMPTS = 3
_UNENDABLE: LiteralString = """
SELECT a.usename AS role FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid
WHERE a.datid = %s AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
  AND (r.rolsuper OR NOT (pg_has_role(current_user, r.oid, 'USAGE')
                          OR pg_has_role(current_user, 'pg_signal_backend', 'USAGE')))
"""
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


class Gone(RestoreError):
    """What was to be swapped in no longer exists, so trying again is pointless."""


def inode(path: Path | str) -> tuple[int, int]:
    """Return a folder's (device, inode). Raise OSError, also for a link."""
    info = os.lstat(path)
    if not stat.S_ISDIR(info.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    return info.st_dev, info.st_ino


def is_folder(path: Path | str, known: tuple[int, int]) -> bool:
    """Return whether the folder at a path is the one that was known by its (device, inode), which is never reused while it
    exists. Devices may have other numbers after a reboot."""
    try:
        return inode(path)[1] == known[1]
    except (FileNotFoundError, NotADirectoryError):
        return False


def live_oid(connection: Connection, name: str) -> int | None:
    """Return the oid of the database that bears a name now."""
    row = connection.execute("SELECT oid::bigint AS oid FROM pg_database WHERE datname = %s", [name]).fetchone()
    return int(row["oid"]) if row else None


def name_of(connection: Connection, oid: int) -> str | None:
    row = connection.execute("SELECT datname AS name FROM pg_database WHERE oid = %s", [oid]).fetchone()
    return str(row["name"]) if row else None


def exchange_databases(connection: Connection, helper: Connection, journal: Journal, pair: DatabasePair) -> float:
    """Make the journal's wanted database live in one transaction, over two maintenance connections; return the gap in
    seconds.

    ALTER DATABASE RENAME locks the database against newcomers and then waits for its sessions to end, which `helper` brings
    about: so no client is refused for longer than that, and a crash before COMMIT leaves all as it was. Raise RestoreError.
    """
    incoming, outgoing = (pair.new_oid, pair.old_oid) if journal.wanted == "new" else (pair.old_oid, pair.new_oid)
    if live_oid(connection, pair.live_name) == incoming:
        return 0.0
    problem: psycopg.Error | None = None
    for _ in range(EXCHANGE_ATTEMPTS):
        incoming_name = name_of(connection, incoming)
        if incoming_name is None or name_of(connection, outgoing) != pair.live_name:
            raise Gone(f"The databases of this restore are not there any more; {pair.live_name} was not touched.")
        if incoming_name not in (pair.other_name, journal.staging_database):
            raise RestoreError(
                f"The database that this restore keeps is named {incoming_name} now; nothing was swapped. Rename it to "
                f"{pair.other_name} and try again."
            )
        _check_sessions(connection, outgoing)
        began = time.monotonic()
        try:
            with connection.transaction(), sessions_ended(helper, [outgoing, incoming]):
                connection.execute("SET LOCAL lock_timeout = '10s'")
                # The folder follows at once: the server may not lose this commit in a crash.
                connection.execute("SET LOCAL synchronous_commit = on")
                aside = f"{pair.other_name[:50]}_x"
                _rename(connection, pair.live_name, aside)
                _rename(connection, incoming_name, pair.live_name)
                _rename(connection, aside, pair.other_name)
            return time.monotonic() - began
        except psycopg.Error as error:
            problem = error
    assert problem is not None
    raise RestoreError(
        f"The database {pair.live_name} could not be swapped: {one_line(problem)}. End the sessions that its role may not "
        "end, then try again."
    ) from problem


def _check_sessions(connection: Connection, oid: int) -> None:
    """Raise RestoreError for a session that we may not end: waiting for it would keep all others out for seconds."""
    row = connection.execute(_UNENDABLE, [oid]).fetchone()
    if row is not None:
        raise RestoreError(
            f"The database could not be swapped: it is used by a session of the role {row['role']}, which our role may not "
            "end. Stop that program, then try again."
        )


def _rename(connection: Connection, name: str, new_name: str) -> None:
    if name != new_name:
        statement = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(new_name))
        connection.execute(statement)


@contextlib.contextmanager
def sessions_ended(helper: Connection, oids: list[int]) -> Iterator[None]:
    """End the sessions of these databases again and again while the block runs."""
    over = threading.Event()

    def end_sessions() -> None:
        while True:
            with contextlib.suppress(psycopg.Error):
                helper.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    # Those of autovacuum have no user: we may not end them, but the renaming does.
                    " WHERE datid = ANY(%s::oid[]) AND usesysid IS NOT NULL AND pid <> pg_backend_pid()",
                    [oids],
                )
            if over.wait(0.02):
                return

    thread = threading.Thread(target=end_sessions, name="end-sessions", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def exchange_folders(pair: FolderPair, wanted: str) -> None:
    """Make the wanted folder live. Raise RestoreError; the live folder is then the one that it was."""
    incoming = pair.new_inode if wanted == "new" else pair.old_inode
    live, other = Path(pair.live), Path(pair.other)
    if pair.by_children:
        raise RestoreError(f"{live} is a mount point; mount its parent folder instead, so that it can be swapped.")
    try:
        if not is_folder(live, incoming):
            if not is_folder(other, incoming):
                raise Gone(f"The folder {other} is not the one that this restore made; {live} was not touched.")
            _rename_exchange(other, live)
        sync_folder(live.parent)  # also if another process has swapped them, and was killed before this
    except OSError as error:
        raise RestoreError(f"The documents folder {live} could not be swapped: {error.strerror}.") from error


def _rename_exchange(one: Path, other: Path) -> None:
    """Swap two names atomically (renameat2(2), RENAME_EXCHANGE), or in three steps where the filesystem can't."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise OSError(number, os.strerror(number))
    aside = other.with_name(f"{one.name}.aside")
    os.rename(other, aside)
    try:
        os.rename(one, other)
    except OSError:
        os.rename(aside, other)
        raise
    os.rename(aside, one)


def repair_three_step_exchange(pair: FolderPair) -> None:
    """Finish a swap in three steps that a crash has interrupted."""
    live, other = Path(pair.live), Path(pair.other)
    aside = live.with_name(f"{other.name}.aside")
    if is_folder(aside, pair.new_inode) or is_folder(aside, pair.old_inode):
        if not live.exists():
            os.rename(aside, live)
        elif not other.exists():
            os.rename(aside, other)
        sync_folder(live.parent)


def is_live(connection: Connection | None, journal: Journal, wanted: str) -> bool:
    """Return whether all of the wanted state is live now."""
    if journal.database is not None:
        assert connection is not None
        oid = journal.database.new_oid if wanted == "new" else journal.database.old_oid
        if live_oid(connection, journal.database.live_name) != oid:
            return False
    if journal.folder is not None:
        incoming = journal.folder.new_inode if wanted == "new" else journal.folder.old_inode
        return is_folder(journal.folder.live, incoming)
    return True
