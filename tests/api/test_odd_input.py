"""What no form and no client sends: NULs, lone surrogates, overlong text, huge numbers, deep nests. No 500, ever."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.models import BackupHistory
from app.services.inputs import ScheduleInput
from app.services.schedules import schedules
from tests.support.api_session import csrf_token
from tests.support.application import PASSWORD, TESTER

# As they stand in JSON: a lone surrogate and an infinity have no other way in.
JSON_VALUES = [r'"a\u0000b"', r'"a\ud800b"', r'["\ud800", "\u0000"]', '"' + "x" * 9000 + '"', "1" * 400, "1e400", "NaN",
               "9223372036854775808", "[" * 400 + "]" * 400]  # fmt: skip
BODIES = [r'"\ud800"', r'{"a\ud800": 1}', r'{"\u0000": 1}', "[" * 100_000, "1" * 9000, "{", "\ufeff{}"]
FORM_VALUES: list[str | bytes] = ["a\0b", b"\xed\xa0\x80", "1" * 5000]
QUERY_VALUES = ["%00", "%ED%A0%80", "1" * 5000, "1e400"]
IDS = ["%00", "%ED%A0%80", "x" * 3000]
QUERIES = ("page", "page_size", "status", "kind", "schedule_id", "q", "path", "table", "next", "action", "subject", "name",
           "token", "frequency", "folder")  # fmt: skip
LEFT_OUT = re.compile("/static/|/logout|/upload|/revoke|/sessions|/openapi|/docs")
SAID = (503, 507)


pytestmark = pytest.mark.heavy


@pytest.fixture
def known(app: APIFlask, make_row: Callable[..., BackupHistory]) -> dict[str, str]:
    """Ids that there are, by the name of the route's argument; and an app that answers errors as in production."""
    app.testing = False
    app.config["PROPAGATE_EXCEPTIONS"] = False
    schedule = schedules.create(TESTER, ScheduleInput(name="Nightly", frequency="daily"))
    return {"backup_id": str(make_row().id), "schedule_id": str(schedule.id)}


def paths(app: APIFlask, known: dict[str, str], method: str, odd: bool = False) -> list[tuple[str, str]]:
    """Return each route with the method, and a path of it: with ids that exist, or with some that can't."""
    found = []
    for rule in app.url_map.iter_rules():
        if method not in (rule.methods or ()) or LEFT_OUT.search(rule.rule):
            continue
        if odd and rule.arguments:
            found += [(rule.rule, re.sub(r"<(?:\w+:)?\w+>", value, rule.rule)) for value in IDS]
        elif not odd:
            usual = re.sub(r"<(?:\w+:)?(\w+)>", lambda name: known.get(name[1], str(uuid.uuid4())), rule.rule)
            found.append((rule.rule, usual))
    return found


def test_json(app: APIFlask, known: dict[str, str], token: Callable[..., dict[str, str]]) -> None:
    client, header = app.test_client(), token("admin") | {"Content-Type": "application/json"}
    document: Any = client.get("/api/openapi.json", headers=header).get_json()
    wrong = []
    for method in ("POST", "PUT", "PATCH"):
        for rule, path in paths(app, known, method):
            operation = document["paths"].get(re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule), {}).get(method.lower(), {})
            schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            while "$ref" in schema:
                schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
            names = schema.get("properties", {})
            bodies = [f"{{{json.dumps(name)}: {value}}}" for name in names for value in JSON_VALUES[:2]]
            bodies += [
                "{" + ", ".join(f"{json.dumps(name)}: {value}" for name in names) + "}" for value in JSON_VALUES[2:] if names
            ]
            for body in [*bodies, *BODIES] if path.startswith("/api/") else []:
                answer = client.open(path, method=method, data=body.encode(), headers=header)
                if answer.status_code >= 500 and answer.status_code not in SAID:
                    wrong.append((method, rule, body[:60], answer.status_code))
    assert wrong == []


def test_queries_and_paths(app: APIFlask, known: dict[str, str], browser: FlaskClient) -> None:
    wrong = []
    for _, path in [*paths(app, known, "GET"), *paths(app, known, "GET", odd=True)]:
        for value in QUERY_VALUES:
            answer = browser.get(f"{path}?" + "&".join(f"{name}={value}" for name in QUERIES))
            if answer.status_code >= 500 and answer.status_code not in SAID:
                wrong.append((path[:80], value[:20], answer.status_code))
            answer.close()
    for path in ("/backups/", "/activity/", "/api/admin/backups"):
        for name in QUERIES:
            for value in QUERY_VALUES[:2]:
                answer = browser.get(f"{path}?{name}={value}")
                if answer.status_code >= 500 and answer.status_code not in SAID:
                    wrong.append((f"{path} {name}", value[:20], answer.status_code))
    assert wrong == []


def test_forms(app: APIFlask, known: dict[str, str], browser: FlaskClient) -> None:
    names: set[str] = set()
    for _, path in paths(app, known, "GET"):
        if not path.startswith("/api/"):
            names |= set(re.findall(r'name="([\w.\-\[\]]+)"', browser.get(path).get_data(as_text=True)))
    assert len(names) > 30
    wrong, csrf = [], csrf_token(browser, "/account/")
    for _, path in paths(app, known, "POST"):
        for value in FORM_VALUES if not path.startswith("/api/") and path != "/login" else []:
            form = dict.fromkeys(names, value) | {"csrf_token": csrf, "password": PASSWORD}
            body = "&".join(f"{quote(name)}={quote(text, safe='')}" for name, text in form.items())
            answer = browser.post(path, data=body, content_type="application/x-www-form-urlencoded")
            if answer.status_code >= 500 and answer.status_code not in SAID:
                wrong.append((path, value[:20], answer.status_code))
    assert wrong == []
