"""tar headers in GNU format: long names and sizes above 8 GiB that GNU tar, bsdtar, busybox and Python all read."""

from __future__ import annotations

import functools
import grp
import pwd
import tarfile

BLOCK = 512
END_OF_ARCHIVE = bytes(2 * BLOCK)

KINDS = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE}


@functools.lru_cache(1024)
def user_name(uid: int) -> str:
    """Given a user id, return its name, or "" where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


@functools.lru_cache(1024)
def group_name(gid: int) -> str:
    """Given a group id, return its name, or "" where it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


def header(
    path: str,
    kind: str,
    size: int = 0,
    mode: int = 0o600,
    mtime: int = 0,
    uid: int = 0,
    gid: int = 0,
    user: str = "",
    group: str = "",
    target: str = "",
) -> bytes:
    """Given an entry's facts (size in bytes, mtime in whole seconds), return its header blocks."""
    entry = tarfile.TarInfo(path + "/" if kind == "folder" else path)
    entry.type = KINDS[kind]
    entry.size, entry.mode, entry.mtime = size, mode, mtime
    entry.uid, entry.gid, entry.uname, entry.gname = uid, gid, user, group
    entry.linkname = target
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def padding(size: int) -> bytes:
    """Given an entry's size in bytes, return the zeros that fill its last block."""
    return bytes(-size % BLOCK)
