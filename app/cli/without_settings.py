"""The `flask` command where there are no settings: it only restores from a file, and undoes that."""

from __future__ import annotations

from flask import Flask

from app.cli import (
    backup,
    restore,  # noqa: F401 - adds its commands to `flask backup`
)


def wanted(arguments: list[str]) -> bool:
    """Given the process's arguments, return whether they ask for a restore from a file, or what follows one."""
    return any(
        command in arguments and any(text == option or text.startswith(f"{option}=") for text in arguments)
        for command, option in (("restore", "--file"), ("undo", "--documents"), ("discard", "--documents"))
    )


def application() -> Flask:
    """Return a bare application that has the backup commands and nothing else: it reads no settings."""
    app = Flask("app")
    app.cli.add_command(backup.backup)
    return app
