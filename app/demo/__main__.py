"""`python -m app.demo`: the whole system on this machine, with sample data. DATA_DIR and PORT set its folder and port."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path
from types import FrameType

import psycopg

from app.demo.config import Place, given_admin, load_or_make_secrets, write_environment_file
from app.demo.launcher import PR_SET_PDEATHSIG, prctl
from app.demo.processes import StackError
from app.demo.stack import Stack, check_web_port, lock_folder


class Stop(BaseException):
    """The demo was asked to stop (Ctrl-C, SIGTERM, SIGHUP)."""


def say(line: str = "") -> None:
    print(line, flush=True)


def place_from_environment() -> Place:
    """Return the place that DATA_DIR and PORT name. Raise StackError."""
    text = os.environ.get("PORT") or "8000"
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise StackError(f"PORT must be a number from 1 to 65535, not {text!r}.")
    return Place(Path(os.environ.get("DATA_DIR") or "data").expanduser().absolute(), int(text))


def stop_on_signals() -> None:
    def stop(_number: int, _frame: FrameType | None) -> None:
        # Stopping takes a few seconds; a second Ctrl-C must not leave half of it running.
        for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(other, signal.SIG_IGN)
        raise Stop

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)


def end_with_make() -> None:
    """Under `make`, stop when make is killed: nobody would be left to press Ctrl-C."""
    if "MAKELEVEL" in os.environ and sys.platform.startswith("linux"):
        prctl(ctypes.CDLL(None, use_errno=True), PR_SET_PDEATHSIG, signal.SIGTERM)


def bring_up(stack: Stack) -> None:
    """Start a stack and print its progress. Raise StackError."""
    say("Starting PostgreSQL 18 and Valkey ...")
    stack.start_servers()
    say("Sample data created." if stack.fill() else "Sample data found.")
    stack.run_flask("db", "upgrade")
    stack.use_admin(given_admin(os.environ))
    write_environment_file(stack.place, stack.settings())
    say("Starting web, worker and scheduler ...")
    stack.start_children()
    if not stack.has_backup():
        say("Making a first backup ...")
        try:
            stack.run_flask("backup", "create", "--wait")
        except StackError as error:
            say(str(error))


def announce(stack: Stack) -> None:
    say()
    say(f"MotoVaultPro Backup runs at {stack.place.url}")
    say(f"  log in as   {stack.secrets.admin_email}")
    say(f"  password    {stack.secrets.admin_password}")
    say(f"  data, logs  {stack.place.data_dir}")
    say(f"  commands    . {stack.place.environment_file} && {Path(sys.executable).with_name('flask')} backup list")
    say("Ctrl-C stops everything; the next start finds its data again.")


def main() -> int:
    """Run the demo until it is asked to stop; return the exit code."""
    os.umask(0o077)
    end_with_make()
    stop_on_signals()
    try:
        place = place_from_environment()
        place.make_folders()
        lock_folder(place)
        check_web_port(place.port)
        stack = Stack(place, load_or_make_secrets(place), say)
        try:
            bring_up(stack)
            announce(stack)
            stack.watch()
        finally:
            say("Stopping ...")
            stack.stop()
    except Stop:
        say("Stopped.")
        return 0
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    except (OSError, psycopg.Error) as error:
        print(f"The demo can't go on: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
