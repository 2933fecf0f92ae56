"""The `flask` command when there are no settings: it can only restore from a file, and undo that."""

from __future__ import annotations

from flask import Flask

from app.cli import (
    backup,
    restore,  # noqa: F401 - adds its commands to `flask backup`
)


def wanted(arguments: list[str]) -> bool:
    """Tell whether the process's arguments ask for a restore from a file, or for its undo or discard."""
    return any(
        command in arguments and any(text == option or text.startswith(f"{option}=") for text in arguments)
        for command, option in (("restore", "--file"), ("undo", "--documents"), ("discard", "--documents"))
    )


def application() -> Flask:
    """Build a bare application with only the backup commands, which reads no settings."""
    app = Flask("app")
    app.cli.add_command(backup.backup)
    return app
