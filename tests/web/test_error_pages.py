"""Errors as pages that say what to do, also when the servers are away."""

from __future__ import annotations

from dataclasses import replace

import pytest
from apiflask import APIFlask
from flask import abort

from app import create_app
from app.errors import Forbidden
from tests.support.browser import Browser


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 413, 422, 429, 500, 503])
def test_every_error_has_a_page_that_says_what_to_do(app: APIFlask, status: int) -> None:
    app.add_url_rule("/broken", "broken", lambda: abort(status))
    page = Browser(app.test_client()).get("/broken", status)
    assert f"Error {status}" in page.text
    assert page.select("a", href="/")
    assert len(page.select("p")) >= 3


def test_a_refusal_of_the_rules_is_shown_in_its_own_words(app: APIFlask) -> None:
    def refuse() -> str:
        raise Forbidden("Only the owner may do <this>.")

    app.add_url_rule("/refused", "refused", refuse)
    assert "Only the owner may do <this>." in Browser(app.test_client()).get("/refused", 403).text


def test_an_unexpected_error_shows_nothing_of_its_inside(app: APIFlask) -> None:
    def fail() -> str:
        raise RuntimeError("the secret inside")

    app.add_url_rule("/fails", "fails", fail)
    page = Browser(app.test_client()).get("/fails", 500)
    assert "the secret inside" not in page.html
    assert "log" in page.text


def test_without_its_database_the_login_is_there_and_says_what_is_wrong(app: APIFlask) -> None:
    gone = "postgresql:///nothing?host=/there/is/no/server"
    stranded = Browser(create_app(replace(app.config["SETTINGS"], database_url=gone)).test_client())
    answer = stranded.submit("/login", "/login", 503, email="admin@example.com", password="a long enough password")
    assert "PostgreSQL" in answer.text


def test_pages_forbid_inline_script_and_being_framed(visitor: Browser) -> None:
    headers = visitor.get("/login").response.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["X-Frame-Options"] == "DENY"
