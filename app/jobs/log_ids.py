"""Whose run a line of the log belongs to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from app import logs

R = TypeVar("R")


def in_logs(name: str) -> Callable[[Callable[[str], R]], Callable[[str], R]]:
    """Return a decorator that puts a job's only argument, under that name, into every log line of the run."""

    def decorate(job: Callable[[str], R]) -> Callable[[str], R]:
        @functools.wraps(job)
        def run(subject_id: str) -> R:
            with logs.bound(**{name: subject_id}):
                return job(subject_id)

        return run

    return decorate
