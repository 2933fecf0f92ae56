"""A JSON string may hold a lone surrogate, which no text is: whoever sends one learns in which field it stands."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.models import BackupHistory
from app.services.inputs import ScheduleInput
from app.services.people import passwords
from app.services.schedules import schedules
from tests.support.api_session import csrf_header
from tests.support.application import PASSWORD, TESTER

# What goes with the odd field, so that it is the only thing wrong.
OTHERS: dict[str, Any] = {
    "/api/admin/backups/<uuid:backup_id>/restore": {"confirm": "live"},
    "/api/admin/backups/<uuid:backup_id>/trust": {"words": "I trust this archive"},
    "/api/admin/backups/schedules": {"name": "Another", "frequency": "daily"},
    "/api/admin/tokens": {"name": "A token", "scopes": ["read"]},
    "/api/admin/invitations": {"email": "new@example.com"},
}


def calls(app: APIFlask, document: Any, known: dict[str, str], odd: str) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Yield the method, path, field and body of each call with a field that can be a text."""
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:\w+:)?(\w+)>", lambda name: known.get(name[1], str(uuid.uuid4())), rule.rule)
        operations = document["paths"].get(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), {})
        for method in {"POST", "PUT", "PATCH", "DELETE"} & (rule.methods or set()):
            content = operations.get(method.lower(), {}).get("requestBody", {}).get("content", {})
            schema = content.get("application/json", {}).get("schema", {})
            while "$ref" in schema:
                schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            others = OTHERS.get(rule.rule, {})
            for name, values in schema.get("properties", {}).items():
                if "string" in str(values):
                    yield (
                        method,
                        path,
                        name,
                        others | ({"password": PASSWORD} if "password" in schema["properties"] else {}) | {name: odd},
                    )
            if "channels" in schema.get("properties", {}):
                for name, value in (
                    ("recipients", [odd]),
                    ("channels", [{"name": odd, "url": "json://localhost"}]),
                    ("channels", [{"name": "a", "url": f"json://{odd}"}]),
                    ("channels", [{"name": "a", "url": "", "id": odd}]),
                ):
                    yield method, path, name, {"password": PASSWORD, name: value}


@pytest.fixture
def known(make_row: Callable[..., BackupHistory]) -> dict[str, str]:
    schedule = schedules.create(TESTER, ScheduleInput(name="Nightly", frequency="daily"))
    return {"backup_id": str(make_row(pinned=True, origin="foreign").id), "schedule_id": str(schedule.id)}


@pytest.mark.parametrize("odd", ["\ud800", "a\0b"])
def test_each_field_refuses_it_by_its_name(app: APIFlask, browser: FlaskClient, known: dict[str, str], odd: str) -> None:
    header, document = csrf_header(browser), browser.get("/api/openapi.json").get_json()
    found = []
    for method, path, name, body in calls(app, document, known, odd):
        answer = browser.open(path, method=method, json=body, headers=header)
        said = str(answer.get_json().get("errors"))
        assert answer.status_code == 422, (method, path, body, said)
        assert name in said, (method, path, body, said)
        assert "surrogate" in said or "NUL" in said or name == "restore_id", (method, path, body, said)
        found.append(name)
    assert {"password", "confirm", "email", "note", "recipients", "channels", "name", "words"} <= set(found)


def test_a_password_that_came_as_other_bytes_is_refused_or_simply_wrong(app: APIFlask) -> None:
    typed = os.fsdecode(b"corr\xe9ct horse battery")
    assert "Unicode" in str(passwords.problem(typed, "admin@example.com"))
    assert not passwords.matches(passwords.hashed(PASSWORD), typed)
