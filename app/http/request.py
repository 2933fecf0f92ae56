"""How a request's body is read, and how the client's Host header is kept out of responses."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import IO, Any, TypeVar, cast
from urllib.parse import urlsplit

from flask import Request as FlaskRequest
from flask import Response, current_app, request
from werkzeug.utils import cached_property

from app import current, turns
from app.errors import InvalidInput, InvalidRequest, UnknownType

NO_JSON = "The body can't be read: it must be JSON, in UTF-8."
View = TypeVar("View", bound=Callable[..., Any])


def streams_its_body(view: View) -> View:
    """Let a view read the request's body itself: it is not parsed as a form first, and may be large."""
    view.streams_its_body = True  # type: ignore[attr-defined]
    return view


def pages_address() -> str:
    """Return the start of links to pages, without a trailing slash: PUBLIC_URL, or the loopback address that was requested,
    or "". Any other Host header is not trusted, since the client chooses it."""
    public_url: str | None = current.settings().public_url
    if public_url:
        return public_url.rstrip("/")
    host = urlsplit(request.host_url).hostname or ""
    return request.host_url.rstrip("/") if host in ("localhost", "::1") or re.fullmatch(r"127(\.\d{1,3}){3}", host) else ""


def redirect_to_this_host(response: Response) -> Response:
    """Make a redirect relative, such as the router's for a missing slash: the client chose the host in it."""
    if response.location and response.location.startswith(request.host_url):
        response.location = "/" + response.location.removeprefix(request.host_url).lstrip("/\\")
        response.set_data(b"")
    return response


def refuse_repeated() -> None:
    """Raise InvalidInput if a parameter of the query is repeated, since it is unclear which one counts."""
    view = current_app.view_functions[request.endpoint or ""]
    if any(location == "query" for _, location in getattr(view, "_spec", {}).get("args", [])):
        twice = [name for name, values in request.args.lists() if len(values) > 1]
        if twice:
            raise InvalidInput(dict.fromkeys(twice, "Give it only once."))


def read_small_body() -> None:
    """Read the body of the current request, unless its view does: we must not wait for a slow client later, while holding a
    database connection or another scarce resource."""
    if not cast(Request, request).is_streamed:
        request.get_data(cache=True)


class Request(FlaskRequest):
    """A request whose missing JSON body counts as an empty object: `curl -X POST` alone starts a backup."""

    def get_json(self, *args: Any, **options: Any) -> Any:
        """Return the JSON body; an empty body is {}. Raise UnknownType for another type, InvalidRequest for broken JSON,
        InvalidInput for `null`, which is not an empty body."""
        if not self.get_data(cache=True):
            return {}
        if not self.is_json:
            raise UnknownType("Send the body as JSON, with 'Content-Type: application/json'.")
        try:
            found = super().get_json(*args, **options)
        except RecursionError as error:
            raise InvalidRequest(NO_JSON) from error
        if found is None:
            raise InvalidInput({"body": "Send an object such as {}, or nothing."})
        return found

    def on_json_loading_failed(self, e: ValueError | None) -> Any:
        """Raise InvalidRequest for a body that is not valid JSON."""
        raise InvalidRequest(NO_JSON) from e

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body as it arrives. A view that streams it has authenticated the client by now, so the deadline is lifted."""
        if self.is_streamed:
            turns.expect_long_body()
        return super().stream

    @property
    def want_form_data_parsed(self) -> bool:
        """Whether the body may be parsed as a form: looking for a CSRF token in it would read a whole upload."""
        return not self.is_streamed and super().want_form_data_parsed

    @property
    def max_content_length(self) -> int | None:
        """The maximum length of the body in bytes; None if the view streams it."""
        return None if self.is_streamed else super().max_content_length

    @max_content_length.setter
    def max_content_length(self, value: int | None) -> None:
        self._max_content_length = value

    @property
    def is_streamed(self) -> bool:
        """Whether the view streams the body."""
        view = current_app.view_functions.get(self.endpoint or "") if current_app else None
        return getattr(view, "streams_its_body", False)
