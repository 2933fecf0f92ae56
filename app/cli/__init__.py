"""The `flask` commands."""

from flask import Flask

from app.cli import access, backup, doctor, processes
from app.cli import restore as restore  # adds its commands to `flask backup`


def init_app(app: Flask) -> None:
    """Given the app, register the commands."""
    for command in (access.admin, access.token, backup.backup, doctor.doctor, processes.worker, processes.scheduler):
        app.cli.add_command(command)
