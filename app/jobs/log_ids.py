"""Whose run a line of the log belongs to."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

from app import logs

R = TypeVar("R")


def in_logs(name: str) -> Callable[[Callable[[str], R]], Callable[[str], R]]:
    """Given the name of what a job's only argument identifies, return a decorator that puts it into every line of the
    run, whoever writes it."""

    def decorate(job: Callable[[str], R]) -> Callable[[str], R]:
        @functools.wraps(job)
        def run(subject_id: str) -> R:
            with logs.bound(**{name: subject_id}):
                return job(subject_id)

        return run

    return decorate
