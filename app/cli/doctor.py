"""`flask doctor`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

import click
from flask.cli import with_appcontext

from app import current
from app.services.checkup import run
from app.services.checkup.findings import OK, PROBLEM, WARNING, Finding, problem

LABELS = {OK: "ok     ", WARNING: "warning", PROBLEM: "PROBLEM"}
COLOURS = {OK: "green", WARNING: "yellow", PROBLEM: "red"}
ADVICE = "Correct it where this process gets its settings from; README.md lists all of them."


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--quiet", is_flag=True, help="Leave out what is fine.")
@with_appcontext
def doctor(as_json: bool, quiet: bool) -> None:
    """Check every setting, server, permission and version, and say what to do. Exits with 1 if there is a problem."""
    sys.exit(_report(run.look(current.settings()), as_json, quiet))


def wanted(arguments: Sequence[str]) -> bool:
    """Tell whether the process's arguments ask for the doctor."""
    return "doctor" in arguments[1:2]


def report_settings(problems: Sequence[str], arguments: Sequence[str]) -> int:
    """Print the problems of settings that cannot be read, each beginning with a setting's name, and return the exit code.

    Without settings there is no app that could run the command."""
    findings = []
    for line in problems:
        area, _, text = line.partition(" ")
        findings.append(problem(area.rstrip(":"), text if area.endswith(":") else line, ADVICE))
    return _report(findings, "--json" in arguments, "--quiet" in arguments)


def _report(findings: Sequence[Finding], as_json: bool, quiet: bool) -> int:
    problems = sum(finding.level == PROBLEM for finding in findings)
    warnings = sum(finding.level == WARNING for finding in findings)
    shown = [finding for finding in findings if finding.level != OK or not quiet]
    if as_json:
        totals = {"ok": problems == 0, "problems": problems, "warnings": warnings}
        click.echo(json.dumps(totals | {"findings": [asdict(finding) for finding in shown]}, indent=2, ensure_ascii=False))
    else:
        for finding in shown:
            click.echo(f"{click.style(LABELS[finding.level], fg=COLOURS[finding.level])} {finding.area}: {finding.text}")
            if finding.advice:
                click.echo(f"        → {finding.advice}")
        click.echo(_summary(problems, warnings))
    return 1 if problems else 0


def _summary(problems: int, warnings: int) -> str:
    if not problems and not warnings:
        return "All is well."
    counted = [
        f"{number} {name}{'s' if number != 1 else ''}" for number, name in ((problems, "problem"), (warnings, "warning"))
    ]
    return f"{' and '.join(counted)}."
