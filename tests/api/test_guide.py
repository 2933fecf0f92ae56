"""docs/api.md: every example is run against the app and answered with the status that stands beside it."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.models import BackupHistory
from app.services.backups import backups
from app.services.inputs import ScheduleInput
from app.services.people import admins, tokens
from app.services.schedules import schedules
from tests.support.application import EMAIL, PASSWORD, ROOT, TESTER, finished
from tests.support.foreign_archives import made_by_hand

GUIDE = ROOT / "docs" / "api.md"
LINE = re.compile(r"curl (?P<rest>.+?)\s+# (?P<status>\d{3})$")
WITH_VALUE = {"-H", "-X", "-d", "--json", "-F", "-T"}
WITHOUT_VALUE = {"-s", "-f", "-sf", "-OJ"}


@dataclass
class Call:
    """What a curl command sends."""

    line: str
    status: int
    url: str = ""
    method: str = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    json: str | None = None
    file: str | None = None
    form: str | None = None


def examples() -> Iterator[tuple[str, int]]:
    """Yield each curl command of the guide and the status beside it."""
    for block in re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.S):
        for line in block.splitlines():
            if "curl " in line:
                found = LINE.search(line)
                assert found, f"no status beside: {line}"
                yield found["rest"], int(found["status"])


def parsed(command: str, status: int) -> Call:
    """Return what a command with its variables filled in sends, as curl would."""
    call = Call(command, status)
    words = iter(shlex.split(command))
    for word in words:
        if word == "|":
            break
        value = next(words) if word in WITH_VALUE else ""
        if word == "-H":
            name, _, text = value.partition(": ")
            call.headers[name] = text
        elif word == "-X":
            call.method = value
        elif word in ("--json", "-d"):
            call.json = value
        elif word == "-T":
            call.file = value
        elif word == "-F":
            call.form = value.removeprefix("file=@")
        elif word not in WITHOUT_VALUE:
            assert word.startswith("http"), f"{word} of {command!r} is not understood"
            call.url = word
    if call.method == "GET" and (call.json is not None or call.form):
        call.method = "POST"
    return call


def send(client: FlaskClient, call: Call, archive: Path) -> int:
    """Send a call and return the status."""
    address = urlsplit(call.url)
    path = address.path + (f"?{address.query}" if address.query else "")
    if call.json is not None:
        headers = call.headers | {"Content-Type": "application/json"}
        return client.open(path, method=call.method, headers=headers, data=call.json).status_code
    if call.form:
        with archive.open("rb") as file:
            return client.open(path, method=call.method, headers=call.headers, data={"file": file}).status_code
    data = archive.read_bytes() if call.file else None
    return client.open(path, method=call.method, headers=call.headers, data=data).status_code


@pytest.fixture
def values(
    app: APIFlask,
    worker: subprocess.Popen[bytes],
    token: Callable[..., dict[str, str]],
    make_row: Callable[..., BackupHistory],
    environment: dict[str, str],
) -> dict[str, str]:
    """What the guide's variables stand for: all of it is really there."""
    admins.create(TESTER, EMAIL, PASSWORD)
    other = admins.create(TESTER, "other@example.com", PASSWORD)
    schedule = schedules.create(TESTER, ScheduleInput(name="Nightly", frequency="daily"))
    old_token, _ = tokens.create(TESTER, "old", ["read"])
    backup = finished(backups.start(TESTER))
    assert backup.status == "completed"
    # From here on everything stays queued: what the examples start must not be over before they go on.
    worker.terminate()
    worker.wait(20)
    return {
        "URL": "http://127.0.0.1:8000",
        "TOKEN": token("admin")["Authorization"].removeprefix("Bearer "),
        "ID": str(backup.id),
        "OLD_ID": str(make_row("failed").id),
        "SCHEDULE": str(schedule.id),
        "OLD_TOKEN": str(old_token.id),
        "ADMIN": str(other.id),
        "motovaultpro": environment["BACKUP_SOURCE_URL"].rpartition("/")[2].partition("?")[0],
    }


def test_every_example_of_the_guide_is_answered_as_it_says(app: APIFlask, values: dict[str, str], tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(made_by_hand())
    client = app.test_client()
    found = list(examples())
    assert len(found) >= 30
    for command, status in found:
        filled = re.sub(r"\$(\w+)", lambda name: values[name[1]], command)
        filled = filled.replace('"confirm": "motovaultpro"', f'"confirm": "{values["motovaultpro"]}"')
        assert send(client, parsed(filled, status), archive) == status, command
        for row in backups.list_backups(status="queued").items:
            backups.cancel(TESTER, row.id)


def test_the_guide_names_the_limits_that_hold() -> None:
    from app.http import limits

    text = GUIDE.read_text()
    for bucket in {limits.API, *limits.STRICTER.values()}:
        assert re.search(rf"\| {bucket.per_minute}\b", text), bucket.name


def test_the_guide_speaks_of_addresses_that_the_document_has(app: APIFlask, token: Callable[..., dict[str, str]]) -> None:
    document = app.test_client().get("/api/openapi.json", headers=token("read")).get_json()
    known = [re.compile(re.sub(r"\{\w+\}", r"[^/?]+", path) + r"$") for path in document["paths"]]
    for path in set(re.findall(r"(/api/admin[^\s\"`?)]*)", GUIDE.read_text())):
        assert any(pattern.match(path.rstrip(".")) for pattern in known), path
