"""The fixtures of the house."""

from tests.house.fixtures import app, environment, make_row, processes, settings, token, worker

__all__ = ["app", "environment", "make_row", "processes", "settings", "token", "worker"]
