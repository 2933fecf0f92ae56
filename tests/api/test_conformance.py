"""The API as its own document says: schemathesis sends what the document allows and forbids, to a real web server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from apiflask import APIFlask

from app.models import BackupHistory
from app.services.backups import backups
from app.services.inputs import ScheduleInput
from app.services.schedules import schedules
from tests.support.application import ROOT, TESTER, Processes, finished
from tests.support.web_server import Web

Token = Callable[..., dict[str, str]]

PHASES = "examples,coverage,fuzzing"
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
    "negative_data_rejection",
    "use_after_free",
)


@pytest.fixture
def web(app: APIFlask, processes: Processes, worker: object, make_row: Callable[..., BackupHistory]) -> Iterator[Web]:
    """A web server and a worker, with a backup that they made, one that failed, one whose file is no archive, a schedule."""
    backup = backups.start(TESTER)
    make_row(), make_row("failed")
    schedules.create(TESTER, ScheduleInput(name="Every night", frequency="daily"))
    assert finished(backup).status == "completed"
    served = Web(processes)
    yield served
    served.kill()


def run(web: Web, header: dict[str, str], folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run schemathesis against a server. The token is passed in the environment."""
    (folder / "schemathesis.toml").write_text('headers = { Authorization = "${API_AUTHORIZATION}" }\n')
    return subprocess.run(
        [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()", "run"),
            f"http://127.0.0.1:{web.port}/api/openapi.json",
            *("--checks", ",".join(CHECKS), "--no-color", "--warnings", "off", "--suppress-health-check", "all"),
            # Its own token is needed to the end.
            *("--exclude-operation-id", "revoke_token"),
            *("--generation-database", "none", "--request-timeout", "30", "--continue-on-failure", *arguments),
        ],
        cwd=folder,
        env={**os.environ, "API_AUTHORIZATION": header["Authorization"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=950,
    )


@pytest.mark.timeout(600)
def test_every_answer_is_as_the_document_says(app: APIFlask, web: Web, token: Token, tmp_path: Path) -> None:
    header = token("admin")
    done = run(web, header, tmp_path, "--phases", PHASES, "--max-examples", "2", "--seed", "1")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    assert app.test_client().get("/api/admin/tokens", headers=header).status_code == 200, "the token did not last"


@pytest.mark.heavy
@pytest.mark.timeout(1000)
def test_thousands_of_answers_are_as_the_document_says(web: Web, token: Token, tmp_path: Path) -> None:
    done = run(web, token("admin"), tmp_path, "--phases", f"{PHASES},stateful", "--max-examples", "40", "--seed", "2")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
