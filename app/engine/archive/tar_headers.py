"""tar headers in GNU format: long names and sizes above 8 GiB that GNU tar, bsdtar, busybox and Python all read.

Written here and not by `tarfile`, because a verification compares them byte by byte, whatever Python version it runs on.
Source: GNU tar manual, "Basic Tar Format" and "GNU tar extensions" (typeflags L and K, base-256 numbers).
"""

from __future__ import annotations

import functools
import grp
import pwd
import struct
from typing import NamedTuple

BLOCK = 512
END_OF_ARCHIVE = bytes(2 * BLOCK)

KINDS = {"file": b"0", "folder": b"5", "symlink": b"2"}
_FIELDS = struct.Struct("100s8s8s8s12s12s8s1s100s8s32s32s16s167s")
_MAGIC = b"ustar  \0"
_BLANK_CHECKSUM = b" " * 8
_LONG_NAME, _LONG_TARGET = b"L", b"K"
NAME_BYTES = 100


class Attributes(NamedTuple):
    """What a header says of an entry besides its name, kind and size. `mtime` is in whole seconds."""

    mode: int = 0o600
    mtime: int = 0
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""


PLAIN = Attributes()
_OF_LONG_NAME = Attributes(mode=0o644)


@functools.lru_cache(1024)
def user_name(uid: int) -> str:
    """Return a user's name, or "" if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


@functools.lru_cache(1024)
def group_name(gid: int) -> str:
    """Return a group's name, or "" if it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return ""


def header(path: str, kind: str, size: int = 0, attributes: Attributes = PLAIN, target: str = "") -> bytes:
    """Return an entry's header blocks. `size` is in bytes; `target` is that of a link."""
    name = (path + "/" if kind == "folder" else path).encode("utf-8", "surrogateescape")
    link = target.encode("utf-8", "surrogateescape")
    long = b""
    if len(link) > NAME_BYTES:
        long += _long(_LONG_TARGET, link)
    if len(name) > NAME_BYTES:
        long += _long(_LONG_NAME, name)
    return long + _block(name, KINDS[kind], size, attributes, link)


def _long(kind: bytes, text: bytes) -> bytes:
    """Return the entry that carries a name or link target of more than 100 bytes for the next entry."""
    content = text + b"\0"
    return _block(b"././@LongLink", kind, len(content), _OF_LONG_NAME) + content + padding(len(content))


def _block(name: bytes, kind: bytes, size: int, attributes: Attributes, link: bytes = b"") -> bytes:
    mode, mtime, uid, gid, user, group = attributes
    numbers = (_number(mode, 8), _number(uid, 8), _number(gid, 8), _number(size, 12), _number(mtime, 12))
    rest = (kind, link[:NAME_BYTES], _MAGIC, user.encode()[:31], group.encode()[:31], b"", b"")
    unsummed = _FIELDS.pack(name[:NAME_BYTES], *numbers, _BLANK_CHECKSUM, *rest)
    return b"%b%06o\0 %b" % (unsummed[:148], sum(unsummed), unsummed[156:])


def _number(value: int, width: int) -> bytes:
    """Return a number as octal digits, or in base 256 if they do not suffice."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return (b"\x80" if value >= 0 else b"\xff") + value.to_bytes(width - 1, "big", signed=True)


def padding(size: int) -> bytes:
    """Return the zeros that fill the last block of an entry of that size in bytes."""
    return bytes(-size % BLOCK)
