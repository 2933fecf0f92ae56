"""What all commands share: errors as one line on stderr, and who is acting."""

from __future__ import annotations

import functools
import getpass
import sys
from collections.abc import Callable
from typing import Any, NoReturn, ParamSpec, TypeVar, cast

import click
from apiflask import APIFlask
from flask import current_app
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError

from app import current
from app.config import ConfigError
from app.errors import DomainError
from app.processes.startup import check_start
from app.runs.queue import QueueUnavailable
from app.services.audit.actor import Actor

P = ParamSpec("P")
R = TypeVar("R")


def application() -> APIFlask:
    """Return the app itself, not the proxy of it."""
    return cast(APIFlask, cast(Any, current_app)._get_current_object())


def actor() -> Actor:
    """Return the person at the keyboard, as the audit log names them."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "unknown"
    return Actor("cli", None, f"{name} (command line)")


def stop(message: str) -> NoReturn:
    """Given a sentence, print it to stderr and end with exit code 1."""
    click.echo(current.settings().redact(message), err=True)
    sys.exit(1)


def checked(command: Callable[P, R]) -> Callable[P, R]:
    """Given a command, make it check the settings first, and turn what it can't help into one line."""

    @functools.wraps(command)
    def run(*args: P.args, **options: P.kwargs) -> R:
        try:
            check_start(application())
            return command(*args, **options)
        except ConfigError as error:
            stop(str(error))
        except DomainError as error:
            stop(error.detail)
        except QueueUnavailable as error:
            stop(str(error))
        except RedisError as error:
            stop(f"REDIS_URL can't be reached: {error}")
        except OperationalError as error:
            stop(f"DATABASE_URL can't be reached: {' '.join(str(error.orig).split())}")

    return run
