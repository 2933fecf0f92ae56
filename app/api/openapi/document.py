"""Generates the OpenAPI 3.1 document from the routes, the notes of APIFlask's decorators on views, and pydantic's schemas.

APIFlask's own generator is not used: it fails on the pages' plain blueprints, repeats a nested model under the name of each
model that contains it, describes responses as if they were input, and does not know that an id in a path is a UUID.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

from apiflask import APIBlueprint, FileSchema
from flask import Flask
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from werkzeug.routing import Rule, UUIDConverter

from app.api.openapi import prose
from app.api.openapi.examples import example_of
from app.api.schemas.common import ProblemOut
from app.http.auth import SAFE_METHODS

Mode = Literal["validation", "serialization"]
Document = dict[str, Any]

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
REFERENCE = "#/components/schemas/{model}"
JSON = "application/json"
SUCCESS = {200: "Done.", 201: "Created; its URL is in Location.", 202: "Accepted. A worker does it.", 204: "Done."}


class Schemas(GenerateJsonSchema):
    """pydantic's schemas without titles that only repeat the names of fields."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        """Return False: no field has a title."""
        return False


@dataclass(frozen=True)
class Operation:
    """A route with one of its methods, and its view with APIFlask's notes."""

    rule: Rule
    method: str
    view: Any
    tag: str

    @property
    def notes(self) -> dict[str, Any]:
        return getattr(self.view, "_spec", {})

    @property
    def scope(self) -> str | None:
        return getattr(self.view, "required_scope", None)

    @property
    def body(self) -> type[BaseModel] | None:
        return self.notes.get("body")

    @property
    def query(self) -> type[BaseModel] | None:
        return next((model for model, location in self.notes.get("args") or [] if location == "query"), None)

    @property
    def answer(self) -> type[BaseModel] | None:
        schema = (self.notes.get("response") or {}).get("schema")
        return schema if isinstance(schema, type) and issubclass(schema, BaseModel) else None

    @property
    def streams(self) -> bool:
        return getattr(self.view, "streams_its_body", False)

    @property
    def more(self) -> dict[int, Any]:
        """The responses that the view adds, by status; None for a problem."""
        noted = self.notes.get("responses") or {}
        return {int(status): None for status in noted} if isinstance(noted, list) else {int(k): v for k, v in noted.items()}


def document(app: Flask) -> Document:
    """Generate the app's OpenAPI document."""
    found = list(_operations(app))
    paths: dict[str, dict[str, Any]] = {}
    for operation in found:
        paths.setdefault(_path(operation.rule), {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": prose.info(),
        "tags": prose.tags(),
        "paths": paths,
        "components": {
            "schemas": _schemas(found),
            "responses": prose.problem_responses(),
            "securitySchemes": prose.security_schemes(app.config["SESSION_COOKIE_NAME"]),
        },
    }


def _operations(app: Flask) -> Iterator[Operation]:
    for rule in app.url_map.iter_rules():
        blueprint = app.blueprints.get(rule.endpoint.rpartition(".")[0])
        if isinstance(blueprint, APIBlueprint) and blueprint.enable_openapi:
            for method in METHODS:
                if method in (rule.methods or ()):
                    yield Operation(rule, method, app.view_functions[rule.endpoint], str(blueprint.tag))


def _path(rule: Rule) -> str:
    return re.sub(r"<(?:[^:<>]+:)?([^<>]+)>", r"{\1}", rule.rule)


def _described(operation: Operation) -> Document:
    """Generate the Operation Object of an operation."""
    text = inspect.getdoc(operation.view) or ""
    first, _, rest = text.partition("\n\n")
    summary, _, more = " ".join(first.split()).partition(". ")
    described = [part for part in (more, " ".join(rest.split()), _needs(operation)) if part]
    found: Document = {
        "operationId": operation.notes.get("operation_id") or operation.view.__name__,
        "tags": [operation.tag],
        "summary": summary.rstrip("."),
        "description": "\n\n".join(described),
        "parameters": [*_path_parameters(operation.rule), *_query_parameters(operation)],
        "responses": _responses(operation),
        "security": _security(operation),
    }
    body = _request_body(operation)
    if body:
        found["requestBody"] = body
    return found


def _needs(operation: Operation) -> str:
    return f"Needs the scope `{operation.scope}`." if operation.scope else "Open to everyone."


def _security(operation: Operation) -> list[dict[str, list[str]]]:
    if operation.scope is None:
        return []
    session: dict[str, list[str]] = {"session": []}
    return [{"token": [operation.scope]}, session if operation.method in SAFE_METHODS else session | {"csrf": []}]


def _path_parameters(rule: Rule) -> list[Document]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": f"The id of the {name.removesuffix('_id')}.",
            "schema": {"type": "string", "format": "uuid"} if isinstance(converter, UUIDConverter) else {"type": "string"},
        }
        for name, converter in rule._converters.items()
    ]


def _query_parameters(operation: Operation) -> list[Document]:
    model = operation.query
    if model is None:
        return []
    properties = model.model_json_schema(schema_generator=Schemas)["properties"]
    return [_query_parameter(name, schema, model.model_fields[name]) for name, schema in properties.items()]


def _query_parameter(name: str, schema: Document, field: FieldInfo) -> Document:
    """Describe a parameter without null: a query omits the name instead."""
    schema = dict(schema)
    description = schema.pop("description", None)
    options = [option for option in schema.pop("anyOf", []) if option != {"type": "null"}]
    if options:
        schema |= options[0] if len(options) == 1 else {"anyOf": options}
    if schema.get("default", "") is None:
        del schema["default"]
    parameter: Document = {"name": name, "in": "query", "required": field.is_required(), "schema": schema}
    return parameter | ({"description": description} if description else {})


def _request_body(operation: Operation) -> Document | None:
    if operation.streams:
        form = {"type": "object", "properties": {"file": prose.BINARY}, "required": ["file"]}
        content: Document = {"application/gzip": {"schema": prose.BINARY}, "multipart/form-data": {"schema": form}}
        return {
            "required": True,
            "description": "The archive, or a form with the archive as its only file.",
            "content": content,
        }
    model = operation.body
    if model is None:
        return None
    media: Document = {"schema": {"$ref": REFERENCE.format(model=model.__name__)}}
    example = example_of(model)
    if example is not None:
        media["example"] = example
    return {"required": any(field.is_required() for field in model.model_fields.values()), "content": {JSON: media}}


def _responses(operation: Operation) -> Document:
    responses = dict([_success(operation)])
    for status in sorted(_problems(operation)):
        responses[str(status)] = {"$ref": f"#/components/responses/{prose.problem_name(status)}"}
    for status, response in operation.more.items():
        if isinstance(response, dict):
            responses[str(status)] = response
    return dict(sorted(responses.items()))


def _problems(operation: Operation) -> set[int]:
    """Collect the statuses of problems: some follow from the input of the operation, some are declared by its view."""
    found = {500, 503}
    if operation.scope:
        found |= {401, 403, 429}
    if operation.method not in SAFE_METHODS:
        found |= {400}
    if operation.rule.arguments:
        found |= {404}
    if operation.query:
        found |= {422}
    if operation.body:
        found |= {413, 415, 422}
    return found | {status for status, response in operation.more.items() if response is None}


def _success(operation: Operation) -> tuple[str, Document]:
    noted = operation.notes.get("response") or {"status_code": 200}
    status = int(noted["status_code"])
    response: Document = {"description": noted.get("description") or SUCCESS[status]}
    model = operation.answer
    if model is not None:
        media: Document = {"schema": {"$ref": REFERENCE.format(model=model.__name__)}}
        example = example_of(model)
        response["content"] = {JSON: media | ({"example": example} if example is not None else {})}
    elif isinstance(noted.get("schema"), FileSchema):
        text = noted["content_type"].startswith("text/")
        response["content"] = {noted["content_type"]: {"schema": {"type": "string"} if text else prose.BINARY}}
    headers = noted.get("headers")
    if headers is not None:
        properties = headers.model_json_schema(schema_generator=Schemas)["properties"]
        response["headers"] = {name: {"schema": schema} for name, schema in properties.items()}
    return str(status), response


def _schemas(operations: Iterable[Operation]) -> Document:
    """Describe each model once, with nested ones: bodies as validated, responses as serialised."""
    wanted: dict[tuple[type[BaseModel], Mode], None] = {(ProblemOut, "serialization"): None}
    for operation in operations:
        if operation.body:
            wanted[operation.body, "validation"] = None
        if operation.answer:
            wanted[operation.answer, "serialization"] = None
    _, found = models_json_schema(list(wanted), ref_template=REFERENCE, schema_generator=Schemas)
    return cast(Document, found["$defs"])
