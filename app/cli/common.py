"""What all commands share: the app, who is acting, and the check of the settings before anything is done."""

from __future__ import annotations

import functools
import getpass
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar, cast

from apiflask import APIFlask
from flask import current_app

from app import current
from app.cli.errors import OF_SERVICES, fail, one_line
from app.processes.startup import check_start
from app.services.audit.actor import Actor

P = ParamSpec("P")
R = TypeVar("R")


def application() -> APIFlask:
    """Return the app itself instead of the proxy."""
    return cast(APIFlask, cast(Any, current_app)._get_current_object())


def actor() -> Actor:
    """Return the person at the keyboard as an actor for the audit log."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "unknown"
    return Actor("cli", None, f"{name} (command line)")


def stop(message: str) -> NoReturn:
    """Print a message to stderr, without secrets, and end the process with exit code 1."""
    fail(message, current.settings().redact)


def checked(command: Callable[P, R]) -> Callable[P, R]:
    """Make a command check the settings first, and end with one line if it meets an expected error."""

    @functools.wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> R:
        with one_line(OF_SERVICES, current.settings().redact):
            check_start(application())
            return command(*args, **options)

    return run
