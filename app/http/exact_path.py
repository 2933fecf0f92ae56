"""Paths of documents in addresses, byte for byte: names of files need not be UTF-8."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

from flask import request, url_for


def url_with_path(endpoint: str, name: str, path: str, **values: Any) -> str:
    """Given an endpoint, a parameter's name, a path (PEP 383) and other values, return the address."""
    exact = urlencode({name: path.encode("utf-8", "surrogateescape")})
    address = url_for(endpoint, **values)
    return f"{address}{'&' if '?' in address else '?'}{exact}"


def path_from_query(name: str) -> str:
    """Given a parameter's name, return its value in the present request with surrogate escapes, "" if it is not there."""
    query = request.query_string.decode("utf-8", "surrogateescape")
    return dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape")).get(name, "")
