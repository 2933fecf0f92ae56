"""Who gets into the API, and what the answers carry."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.extensions import db
from app.models import utcnow
from app.services.people import admins, tokens
from tests.support.api_session import csrf_header
from tests.support.application import EMAIL, PASSWORD, TESTER, unreachable_redis

URL = "/api/admin/backups"
Token = Callable[..., dict[str, str]]


def test_nobody_is_told_how_to_get_in(app: APIFlask) -> None:
    answer = app.test_client().get(URL)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "Authorization: Bearer" in answer.get_json()["detail"]


@pytest.mark.parametrize("header", ["Bearer nonsense", "Bearer", "Basic YTpi", "nonsense"])
def test_a_wrong_token_is_refused_even_beside_a_session(browser: FlaskClient, header: str) -> None:
    assert browser.get(URL).status_code == 200
    assert browser.get(URL, headers={"Authorization": header}).status_code == 401


def test_a_token_notes_its_last_use_and_ends_when_it_is_revoked(app: APIFlask) -> None:
    token, secret = tokens.create(TESTER, "monitor", ["read"])
    header = {"Authorization": f"Bearer {secret}"}
    assert app.test_client().get(URL, headers=header).status_code == 200
    db.session.refresh(token)
    assert token.last_used_at is not None
    assert token.last_used_address == "127.0.0.1"
    assert secret not in (token.secret_hash, token.prefix)
    tokens.revoke(TESTER, token.id)
    assert app.test_client().get(URL, headers=header).status_code == 401


def test_a_disabled_admins_session_and_tokens_end_at_once(app: APIFlask, browser: FlaskClient) -> None:
    admin = admins.authenticate(EMAIL, PASSWORD, "127.0.0.1")
    actor = TESTER.__class__("admin", str(admin.id), admin.email, None)
    _, secret = tokens.create(actor, "theirs", ["admin"], PASSWORD)
    header = {"Authorization": f"Bearer {secret}"}
    assert app.test_client().get(URL, headers=header).status_code == 200
    admin.disabled_at = utcnow()
    db.session.commit()
    assert app.test_client().get(URL, headers=header).status_code == 401
    assert browser.get(URL).status_code == 401


def test_a_read_token_may_look_but_not_download_or_delete(app: APIFlask, token: Token) -> None:
    client, header = app.test_client(), token("read")
    assert client.get(URL, headers=header).status_code == 200
    refused = client.post(URL, headers=header)
    assert refused.status_code == 403
    assert "'backup'" in refused.get_json()["detail"]


def test_a_sessions_write_needs_the_csrf_header(browser: FlaskClient) -> None:
    refused = browser.post(URL)
    assert refused.status_code == 400
    assert refused.mimetype == "application/problem+json"
    assert browser.post(URL, headers=csrf_header(browser)).status_code == 202


def test_every_answer_has_the_security_headers(app: APIFlask) -> None:
    for path in ("/login", URL, "/healthz", "/nowhere"):
        headers = app.test_client().get(path).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"


def test_errors_are_pages_for_browsers_and_problems_for_programs(app: APIFlask) -> None:
    client = app.test_client()
    assert client.get("/nowhere", headers={"Accept": "text/html"}).mimetype == "text/html"
    assert client.get("/nowhere", headers={"Accept": "application/json"}).mimetype == "application/problem+json"
    assert client.get("/api/nowhere", headers={"Accept": "text/html"}).mimetype == "application/problem+json"


def test_an_unexpected_error_says_nothing_of_its_cause(app: APIFlask, token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**_: object) -> None:
        raise RuntimeError("the secret is 12345")

    monkeypatch.setattr("app.services.backups.backups.list_backups", broken)
    answer = app.test_client().get(URL, headers=token("read"))
    assert answer.status_code == 500
    assert answer.mimetype == "application/problem+json"
    assert "12345" not in answer.get_data(as_text=True)


def test_a_body_that_is_too_large_is_refused(app: APIFlask, token: Token) -> None:
    answer = app.test_client().post(URL, data=b"x" * 1_100_000, headers=token("backup"))
    assert (answer.status_code, answer.mimetype) == (413, "application/problem+json")


def test_a_queue_that_is_down_fails_the_backup_with_the_reason(
    app: APIFlask, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = token("backup")
    app.extensions["redis"] = unreachable_redis()
    answer = app.test_client().post(URL, headers=header)
    assert answer.status_code == 503
    assert "REDIS_URL" in answer.get_json()["detail"]
    listed = app.test_client().get(URL, headers=header).get_json()["items"]
    assert [item["status"] for item in listed] == ["failed"]
    assert "REDIS_URL" in listed[0]["error"]
