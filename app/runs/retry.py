"""How a run outlives a restart of the metadata database at the moments when it can't do without it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from sqlalchemy.exc import OperationalError

T = TypeVar("T")

PATIENCE_SECONDS = 120.0
PAUSE_SECONDS = 1.0


def while_database_restarts(do: Callable[[], T]) -> T:
    """Do what needs the metadata database. If it can't be reached, try again for PATIENCE_SECONDS.

    Raise what `do` raises.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return do()
        except (OperationalError, psycopg.OperationalError):
            if time.monotonic() > until:
                raise
            time.sleep(PAUSE_SECONDS)
