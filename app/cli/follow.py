"""Follows a run from the command line."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

import click

from app.services.backups import backups

POLL_SECONDS = 0.5
Row = TypeVar("Row")


def follow(look: Callable[[], Row], unfinished: Callable[[Row], bool], text_of: Callable[[Row], str]) -> Row:
    """Show a run's progress until it is finished, and return its row. The first word of its text is the phase: without a
    terminal, each phase is printed once."""
    terminal = sys.stdout.isatty()
    shown = ""
    while unfinished(row := look()):
        text = text_of(row)
        if terminal:
            click.echo(f"\r\033[K{text}", nl=False)
        elif text.split(" ", 1)[0] != shown:
            shown = text.split(" ", 1)[0]
            click.echo(text)
        backups.rest()
        time.sleep(POLL_SECONDS)
    if terminal:
        click.echo("\r\033[K", nl=False)
    return row
