"""Wrong passwords are counted for all processes together."""

from __future__ import annotations

import os
import subprocess
import sys

from apiflask import APIFlask

from app.services.people import admins
from tests.support.application import EMAIL, PASSWORD, ROOT, TESTER

LOG_IN = """
import sys
from app import create_app
app = create_app()
app.config["WTF_CSRF_ENABLED"] = False
client = app.test_client()
for password in sys.stdin.read().splitlines():
    answer = client.post("/login", data={"email": sys.argv[1], "password": password})
    print("RESULT", answer.status_code, answer.headers.get("Retry-After", "-"))
"""


def log_in(environment: dict[str, str], *passwords: str, email: str = EMAIL) -> list[list[str]]:
    """Try passwords one by one in a process of its own; return each response's status and time to wait."""
    done = subprocess.run(
        [sys.executable, "-c", LOG_IN, email],
        input="\n".join(passwords),
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("RESULT")]


def test_the_sixth_wrong_password_is_throttled_in_a_second_process_too(app: APIFlask, environment: dict[str, str]) -> None:
    admins.create(TESTER, EMAIL, PASSWORD)
    first = log_in(environment, "wrong 1", "wrong 2", "wrong 3")
    second = log_in(environment, "wrong 4", "wrong 5", "wrong 6", PASSWORD)
    assert [status for status, _ in first + second] == ["401"] * 5 + ["429"] * 2
    assert 0 < int(second[-1][1]) <= 15 * 60
    assert log_in(environment, "wrong", email="other@example.com")[0][0] == "401"


def test_signing_in_before_that_forgets_the_failures(app: APIFlask, environment: dict[str, str]) -> None:
    admins.create(TESTER, EMAIL, PASSWORD)
    wrong = [f"wrong {number}" for number in range(4)]
    statuses = [status for status, _ in log_in(environment, *wrong, PASSWORD)]
    assert statuses == ["401"] * 4 + ["302"]
    assert [status for status, _ in log_in(environment, *wrong)] == ["401"] * 4
