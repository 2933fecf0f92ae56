"""The result of a check."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclass(frozen=True)
class Finding:
    """The result of one check. `area` is a setting's name or a process, `level` one of "ok", "warning" and "problem", `text`
    a sentence, `advice` what to do (empty: nothing). Holds no secret."""

    area: str
    level: str
    text: str
    advice: str = ""


def fine(area: str, text: str) -> Finding:
    """Return a finding that needs no action."""
    return Finding(area, OK, text)


def warning(area: str, text: str, advice: str) -> Finding:
    """Return a finding that something works, but not as it should."""
    return Finding(area, WARNING, text, advice)


def problem(area: str, text: str, advice: str) -> Finding:
    """Return a finding that something does not work, or will not."""
    return Finding(area, PROBLEM, text, advice)
