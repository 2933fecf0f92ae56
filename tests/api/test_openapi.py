"""The OpenAPI document and the page that shows it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from pydantic import BaseModel
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR

from app.api.openapi.document import _operations
from app.api.openapi.examples import _examples, example_of
from tests.support import openapi_shape

Token = Callable[..., dict[str, str]]


@pytest.fixture
def document(app: APIFlask, token: Token) -> dict[str, Any]:
    """The document, as a reader gets it."""
    answer = app.test_client().get("/api/openapi.json", headers=token("read"))
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    found: dict[str, Any] = answer.get_json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each path, method and operation of the document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def references(part: Any) -> Iterator[str]:
    """Yield every reference in a part of the document."""
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    problems = [f"{error.instance_path}: {error.message}" for error in OPENAPI_31_VALIDATOR.iter_errors(document)]
    assert not problems


def test_every_reference_leads_somewhere_and_every_component_is_used(document: dict[str, Any]) -> None:
    used = set(references(document))
    for address in used:
        found = document
        for name in address.removeprefix("#/").split("/"):
            found = found[name]
    components = document["components"]
    listed = {f"#/components/{kind}/{name}" for kind in ("schemas", "responses") for name in components[kind]}
    assert listed == used


def test_every_route_of_the_api_is_described(app: APIFlask, document: dict[str, Any]) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in set(rule.methods or ()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/admin/") or rule.endpoint.startswith(("health.", "metrics."))
    }
    assert len(routes) > 30
    assert {(path, method) for path, method, _ in operations(document)} == routes


def test_operations_are_told_apart_sorted_and_explained(document: dict[str, Any]) -> None:
    found = [operation for _, _, operation in operations(document)]
    assert len({operation["operationId"] for operation in found}) == len(found)
    tags = {tag["name"] for tag in document["tags"]}
    for operation in found:
        assert set(operation["tags"]) <= tags
        assert len(operation["summary"]) > 5, operation["operationId"]
        assert operation["description"]
        assert all(parameter.get("description") for parameter in operation["parameters"] if parameter["in"] == "path")


def test_an_operation_names_its_scope_and_what_a_session_sends(document: dict[str, Any]) -> None:
    operation = document["paths"]["/api/admin/backups/{backup_id}"]["delete"]
    assert operation["security"] == [{"token": ["admin"]}, {"session": [], "csrf": []}]
    assert document["paths"]["/api/admin/backups"]["get"]["security"] == [{"token": ["read"]}, {"session": []}]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    schemes = document["components"]["securitySchemes"]
    assert (schemes["token"]["scheme"], schemes["session"]["name"]) == ("bearer", "session")


def test_problems_are_problem_json_and_name_when_to_come_back(document: dict[str, Any]) -> None:
    operation = document["paths"]["/api/admin/backups"]["post"]
    problems = {status for status in operation["responses"] if status >= "400"}
    assert problems == {"400", "401", "403", "409", "413", "415", "422", "429", "500", "503"}
    for response in document["components"]["responses"].values():
        assert list(response["content"]) == ["application/problem+json"]
    assert "Retry-After" in document["components"]["responses"]["TooManyRequests"]["headers"]


def test_types_are_written_the_way_of_3_1(document: dict[str, Any]) -> None:
    assert '"nullable"' not in str(document).replace("'", '"')
    backup = document["components"]["schemas"]["BackupOut"]["properties"]
    assert backup["id"] == {"type": "string", "format": "uuid"}
    assert {"type": "null"} in backup["finished_at"]["anyOf"]
    assert {"type": "string", "format": "date-time"} in backup["finished_at"]["anyOf"]
    (parameter,) = document["paths"]["/api/admin/backups/{backup_id}"]["get"]["parameters"]
    assert parameter["schema"] == {"type": "string", "format": "uuid"}


def test_uploads_take_a_file_and_downloads_send_one(document: dict[str, Any]) -> None:
    upload = document["paths"]["/api/admin/backups/upload"]["post"]
    assert set(upload["requestBody"]["content"]) == {"application/gzip", "multipart/form-data"}
    assert {"409", "413", "415", "507"} <= set(upload["responses"])
    download = document["paths"]["/api/admin/backups/{backup_id}/download"]["get"]["responses"]
    assert list(download["200"]["content"]) == ["application/gzip"]
    assert {"206", "304", "409", "416"} <= set(download)


def test_every_example_is_what_its_model_says(app: APIFlask) -> None:
    inputs: set[type[BaseModel]] = set()
    outputs: set[type[BaseModel]] = set()
    for operation in _operations(app):
        inputs |= {operation.body} if operation.body else set()
        outputs |= {operation.answer} if operation.answer else set()
    assert set(_examples()) <= inputs | outputs
    for model in _examples():
        example = example_of(model)
        checked = model.model_validate(example)
        assert set(example) <= set(checked.model_dump(mode="json", by_alias=True))
        if model in outputs:
            assert set(example) == set(checked.model_dump(mode="json", by_alias=True)), f"{model.__name__} shows every field"


def test_programs_find_what_they_relied_on_before(document: dict[str, Any]) -> None:
    before = json.loads(openapi_shape.FILE.read_text(encoding="utf-8"))
    now = openapi_shape.shape(document)
    assert now == before, "the API has changed: `python -m tests.support.openapi_shape` if that is meant"


def test_the_shape_notices_a_field_and_a_status_but_no_other_words(document: dict[str, Any]) -> None:
    changed = copy.deepcopy(document)
    changed["info"]["description"] = "Other words."
    changed["components"]["schemas"]["ScheduleOut"]["properties"]["description"]["description"] = "Other words."
    assert openapi_shape.shape(changed) == openapi_shape.shape(document)
    del changed["components"]["schemas"]["ScheduleOut"]["properties"]["description"]
    assert openapi_shape.shape(changed) != openapi_shape.shape(document)
    changed = copy.deepcopy(document)
    del changed["paths"]["/api/admin/backups"]["post"]["responses"]["409"]
    assert openapi_shape.shape(changed) != openapi_shape.shape(document)


def test_the_document_is_for_those_who_may_read(app: APIFlask, browser: FlaskClient) -> None:
    nobody = app.test_client()
    refused = nobody.get("/api/openapi.json")
    assert (refused.status_code, refused.mimetype) == (401, "application/problem+json")
    assert browser.get("/api/openapi.json").status_code == 200
    led = nobody.get("/api/docs")
    assert (led.status_code, led.location) == (302, "/login?next=/api/docs")
    assert nobody.get("/api/docs", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_the_page_loads_nothing_from_elsewhere_and_needs_no_inline_script(browser: FlaskClient) -> None:
    answer = browser.get("/api/docs")
    page = answer.get_data(as_text=True)
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src" not in policy or "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(loaded) >= 5
    for address in loaded:
        assert address.startswith("/"), f"{address} is elsewhere"
        assert browser.get(address).status_code in (200, 302)
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert not re.search(r"\son\w+=|\sstyle=", page)
    assert 'name="csrf-token"' in page


def test_only_the_two_files_of_swagger_ui_are_served(app: APIFlask, browser: FlaskClient) -> None:
    sent = browser.get("/api/docs/swagger-ui-bundle.js")
    assert (sent.status_code, sent.mimetype) == (200, "text/javascript")
    for name in ("index.css", "../__init__.py", "..%2f__init__.py", "nothing.js"):
        assert browser.get(f"/api/docs/{name}").status_code == 404
    assert app.test_client().get("/api/docs/swagger-ui.css").status_code == 401
