"""Connects the `flask` commands with the app."""

from flask import Flask

from app.cli import (
    access,
    backup,
    doctor,
    processes,
    restore,  # noqa: F401 - adds its commands to `flask backup`
    retention,
)


def register(app: Flask) -> None:
    """Register the commands."""
    groups = (access.admin, access.token, access.audit, backup.backup, retention.retention)
    for command in (*groups, doctor.doctor, processes.worker, processes.scheduler):
        app.cli.add_command(command)
