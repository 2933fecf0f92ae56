"""Become another program: one that dies with its parent and, if asked, does not run as root.

Run as a script of its own, so that the starting process (often threaded) never runs Python between fork and exec:

    launcher.py --parent PID --death-signal N [--user UID:GID] [--needs PATH]... -- PROGRAM [ARGUMENT]...

With `--user` the program runs under that user. If that user can't reach a path of `--needs` because a parent folder is
closed (a project below /root, for example), the program keeps the capability to traverse it; no folder's mode is changed.
If that is not possible, the exit code is 126, with one line on stderr. Imports nothing of ours.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from typing import NoReturn

PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAP_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
EXIT_CANNOT_RUN = 126
ORDINARY = "start it as an ordinary user"


class CapHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class CapData(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def fail(message: str) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(EXIT_CANNOT_RUN)


def prctl(libc: ctypes.CDLL, option: int, *values: int) -> None:
    """Call prctl(2). Raise OSError if the kernel refuses."""
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    if libc.prctl(option, *arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def first_unreachable(paths: list[str], uid: int, gid: int) -> str | None:
    """Return the first path that the user may not read or enter, or None. Must be called as root."""
    os.setegid(gid)
    os.seteuid(uid)
    try:
        for path in paths:
            if not os.access(path, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
                return path
        return None
    finally:
        os.seteuid(0)
        os.setegid(0)


def drop_to(uid: int, gid: int) -> None:
    os.setgid(gid)
    os.setuid(uid)


def drop_but_pass_folders(libc: ctypes.CDLL, uid: int, gid: int) -> None:
    """Change the user but keep the right to traverse closed folders, even across exec. Raise OSError if it can't be kept.

    Capabilities must survive three things: setuid and the access(2) calls of PostgreSQL's programs, which both ignore
    them for a user other than root unless NO_SETUID_FIXUP is set; and exec, for which they must be ambient.
    """
    prctl(libc, PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    drop_to(uid, gid)
    header = CapHeader(CAP_VERSION_3, 0)
    data = (CapData * 2)()
    if libc.capget(ctypes.byref(header), data) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    kept = data[0].permitted & (1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH)
    if not kept & 1 << CAP_DAC_OVERRIDE:
        raise PermissionError("CAP_DAC_OVERRIDE is not permitted")
    data[0] = CapData(kept, kept, kept)
    data[1] = CapData(0, 0, 0)
    if libc.capset(ctypes.byref(header), data) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        if kept & 1 << capability:
            prctl(libc, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)


def change_user(uid: int, gid: int, needs: list[str]) -> None:
    try:
        os.setgroups([gid])
        blocked = first_unreachable(needs, uid, gid)
        if blocked is None:
            drop_to(uid, gid)
            return
    except OSError as error:
        fail(f"PostgreSQL does not run as root, and root may not become user {uid} here ({error.strerror}): {ORDINARY}.")
    advice = (
        f"PostgreSQL does not run as root, and user {uid} may not reach {blocked}: "
        f"{ORDINARY}, or move the project and its data to where every user has access."
    )
    if not sys.platform.startswith("linux"):
        fail(advice)
    try:
        drop_but_pass_folders(ctypes.CDLL(None, use_errno=True), uid, gid)
    except OSError:
        fail(advice)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--death-signal", type=int, required=True)
    parser.add_argument("--user")
    parser.add_argument("--needs", action="append", default=[])
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    if options.user:
        uid, gid = map(int, options.user.split(":"))
        change_user(uid, gid, options.needs)
    if sys.platform.startswith("linux"):
        # After the change of user, which would clear it.
        prctl(ctypes.CDLL(None, use_errno=True), PR_SET_PDEATHSIG, options.death_signal)
        if os.getppid() != options.parent:
            sys.exit(EXIT_CANNOT_RUN)
    try:
        os.execv(options.command[0], options.command)  # noqa: S606 - a command of our own
    except OSError as error:
        fail(f"Cannot start {options.command[0]}: {error.strerror}.")


if __name__ == "__main__":
    main()
