"""What a look at one thing has found."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `area` is a setting's name or a process, `level` one of "ok", "warning" and "problem", `text`
    a sentence, `advice` what to do (empty: nothing). Holds no secret."""

    area: str
    level: str
    text: str
    advice: str = ""


def fine(area: str, text: str) -> Finding:
    """Given an area and a sentence, return that all is well."""
    return Finding(area, OK, text)


def warning(area: str, text: str, advice: str) -> Finding:
    """Given an area, a sentence and what to do, return that it works, but not as it should."""
    return Finding(area, WARNING, text, advice)


def problem(area: str, text: str, advice: str) -> Finding:
    """Given an area, a sentence and what to do, return that something does not work, or will not."""
    return Finding(area, PROBLEM, text, advice)
