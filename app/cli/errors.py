"""The one place that turns an expected error into a line on stderr and an exit code. Others keep their traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import click
import psycopg
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError

from app.config import ConfigError
from app.engine.errors import EngineError
from app.errors import DomainError
from app.runs.queue import QueueUnavailable

FAILED = 1

# What a command may expect that calls services, and one that calls the engine where there may be nothing else.
OF_SERVICES = (ConfigError, DomainError, QueueUnavailable, RedisError, OperationalError)
OF_ENGINE = (ConfigError, EngineError, psycopg.Error, OSError)


@contextmanager
def one_line(expected: tuple[type[Exception], ...], redact: Callable[[str], str]) -> Iterator[None]:
    """End the process with one line and exit code 1 if the block raises an expected error; `redact` hides secrets in it."""
    try:
        yield
    except expected as error:
        fail(message_of(error), redact)


def fail(message: str, redact: Callable[[str], str]) -> NoReturn:
    """Print a message to stderr and end the process with exit code 1."""
    click.echo(redact(message), err=True)
    sys.exit(FAILED)


def message_of(error: Exception) -> str:
    """Say what happened, naming the setting whose server cannot be reached."""
    if isinstance(error, RedisError):
        return f"REDIS_URL can't be reached: {error}"
    if isinstance(error, OperationalError):
        return f"DATABASE_URL can't be reached: {' '.join(str(error.orig).split())}"
    return str(error)
