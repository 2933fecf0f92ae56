"""Paths of documents in URLs, byte for byte, since file names need not be UTF-8."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

from flask import request, url_for


def url_with_path(endpoint: str, name: str, path: str, **values: Any) -> str:
    """Build the URL of an endpoint with a path, which may hold surrogate escapes (PEP 383), in the parameter `name`."""
    exact = urlencode({name: path.encode("utf-8", "surrogateescape")})
    address = url_for(endpoint, **values)
    return f"{address}{'&' if '?' in address else '?'}{exact}"


def path_from_query(name: str) -> str:
    """Return a parameter of the current request with surrogate escapes, "" if it is missing."""
    query = request.query_string.decode("utf-8", "surrogateescape")
    return dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape")).get(name, "")
