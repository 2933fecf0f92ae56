"""The disk of the database server, if it is visible from here: SQL can't query its free space.

It is visible if the server runs on this machine, in this container. The session's own server process proves that: /proc has
it under the pid that the server reports, and its title names our end of the connection.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import LiteralString

import psycopg

from ..errors import RestoreError
from .postgres import Connection

LOCAL_HOSTS = ("127.", "::1", "localhost", "/")
_PLACE: LiteralString = """
SELECT d.dattablespace::bigint AS tablespace, t.spcname AS name, pg_backend_pid() AS pid, inet_client_port() AS port
FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.datname = current_database()
"""


@dataclass(frozen=True)
class ServerDisk:
    """The locations of the live database's files and of the server's WAL."""

    folders: tuple[Path, ...]

    @property
    def device(self) -> int:
        """The database's file system, as in st_dev."""
        return os.stat(self.folders[0]).st_dev

    def free_bytes(self) -> int:
        """Return the free bytes for the server on the database's disk. Raise OSError."""
        return _free(self.folders[0])

    def least_free_bytes(self) -> int:
        """Return the free bytes on the fuller of the disks of database and WAL. Raise OSError."""
        return min(map(_free, self.folders))


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def find(connection: Connection) -> ServerDisk | None:
    """Find the disk of the live database's server; None if it is not visible from here."""
    row = connection.execute(_PLACE).fetchone()
    if row is None or not connection.info.host.startswith(LOCAL_HOSTS):
        return None
    process = Path("/proc") / str(row["pid"])
    try:
        title = (process / "cmdline").read_bytes()
        ours = b"[local]" if row["port"] is None else b"(%d)" % row["port"]
        if not (title.startswith(b"postgres:") and ours in title):
            return None
        data = _data_folder(connection, process)
        if not _is_same(data, process / "cwd"):
            return None
        base = "base" if row["name"] == "pg_default" else f"pg_tblspc/{row['tablespace']}"
        folders = tuple(folder for folder in (data / base, data / "pg_wal") if os.path.isdir(folder))
        folders = folders or (data,)  # another user may enter none of them, but may query the space of this one
        for folder in folders:
            os.statvfs(folder)
    except (OSError, psycopg.Error):
        return None
    return ServerDisk(folders)


def _is_same(folder: Path, link: Path) -> bool:
    """Return whether a folder is the target of a /proc link, as far as that may be followed: not in a container."""
    try:
        return os.path.samefile(folder, link)
    except PermissionError:
        return True


def _data_folder(connection: Connection, process: Path) -> Path:
    """Return the server's data folder. Raise OSError or psycopg.Error if neither the system nor the server names it."""
    try:
        return Path(os.readlink(process / "cwd"))
    except PermissionError:  # another user's process
        row = connection.execute("SELECT current_setting('data_directory') AS folder").fetchone()
        assert row is not None
        folder = Path(str(row["folder"]))
        if os.stat(folder).st_uid != os.stat(process).st_uid:
            raise
        return folder


def watch(disk: ServerDisk, reserve: int) -> Callable[[], None]:
    """Return a function that raises RestoreError once less than `reserve` bytes are left for the server, which stops when
    it has none left, and does not start again."""

    def look() -> None:
        free = disk.least_free_bytes()
        if free < reserve:
            raise RestoreError(
                f"The disk of the database server has only {free // 1_000_000} MB left ({disk.folders[0]}), and "
                f"{reserve // 1_000_000} MB are kept free so that the server goes on: the load was ended. Nothing live was "
                "changed, and what was loaded is dropped. Free space there, and start the restore again."
            )

    return look
