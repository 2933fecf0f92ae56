"""Whatever a program sends, it gets a problem with a sentence, never a page and never a 500."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.extensions import db
from app.models import BackupHistory
from tests.support.api_session import csrf_header
from tests.support.application import PASSWORD, unreachable_redis

URL = "/api/admin/backups"
NOBODY = "00000000-0000-4000-8000-000000000000"
JSON = "application/json"


def detail_of(answer: TestResponse, status: int) -> str:
    """Check that a response is a complete problem of that status, and return its detail."""
    assert answer.status_code == status, answer.get_data(as_text=True)
    assert answer.mimetype == "application/problem+json"
    problem = answer.get_json()
    assert {"type", "title", "status", "detail"} <= set(problem)
    assert problem["status"] == status
    assert len(problem["detail"]) > 10
    detail: str = problem["detail"]
    return detail


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/nowhere", "/api/admin/backups/no-uuid", f"{URL}/{NOBODY}"])
@pytest.mark.parametrize("accept", ["text/html", "*/*", "application/json"])
def test_404_below_api_is_a_problem_whatever_is_accepted(client: FlaskClient, path: str, accept: str) -> None:
    detail_of(client.get(path, headers={"Accept": accept}), 404)


def test_405_names_the_methods_that_are_taken(client: FlaskClient) -> None:
    for method, path in (("PUT", URL), ("DELETE", f"{URL}/settings"), ("TRACE", URL), ("PROPFIND", URL)):
        answer = client.open(path, method=method)
        detail_of(answer, 405)
        assert "GET" in answer.headers["Allow"]


@pytest.mark.parametrize(
    "body",
    [b"{", b"not json", b'{"note": "x"', b"\xff\xfe{}", b'{"note": "\xe4"}', b"[" * 200_000, b'{"a":' * 100_000,
     b'{"note": ' + b"9" * 5000 + b"}", b"{}{}", b"\x00"],
    ids=lambda body: repr(body[:12]),
)  # fmt: skip
def test_a_body_that_is_no_json_is_400(client: FlaskClient, body: bytes) -> None:
    assert "JSON" in detail_of(client.post(URL, data=body, content_type=JSON), 400)


@pytest.mark.parametrize("body", ["[]", "null", '"text"', "3", "true", "[{}]"])
def test_json_that_is_no_object_is_422(client: FlaskClient, body: str) -> None:
    detail_of(client.post(URL, data=body, content_type=JSON), 422)


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "application/xml", "nonsense", ""])
def test_another_content_type_is_415(client: FlaskClient, kind: str) -> None:
    assert JSON in detail_of(client.post(URL, data=b'{"note": "x"}', content_type=kind), 415)


def test_no_body_at_all_is_an_empty_object(client: FlaskClient) -> None:
    assert client.post(URL, content_type="text/plain").status_code == 202


def test_a_body_that_is_too_large_is_413(client: FlaskClient) -> None:
    detail_of(client.post(URL, data=b'{"note": "' + b"x" * 1_100_000 + b'"}', content_type=JSON), 413)


def test_an_upload_of_an_unknown_type_is_415(client: FlaskClient) -> None:
    detail_of(client.post(f"{URL}/upload", data=b"x", content_type="image/png"), 415)


@pytest.mark.parametrize(
    "query",
    ["page=0", "page=-1", "page=one", "page=1.5", f"page={10**30}", "page=" + "9" * 5000, "page=1000001", "page_size=101",
     "page_size=0", "status=finished", "status=%ff%fe", "status=%00", "kind=", "schedule_id=1", "schedule_id=%00",
     "pages=1", "page=%00", "%00=1"],
    ids=lambda query: query[:20],
)  # fmt: skip
def test_a_query_that_breaks_a_rule_is_422_and_names_the_field(client: FlaskClient, query: str) -> None:
    answer = client.get(f"{URL}?{query}")
    detail_of(answer, 422)
    assert answer.get_json()["errors"]


def test_the_last_page_that_may_be_asked_for_is_empty(client: FlaskClient) -> None:
    answer = client.get(f"{URL}?page=1000000&page_size=100")
    assert (answer.status_code, answer.get_json()["items"]) == (200, [])


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", URL, {"note": "a\0b"}),
        ("POST", URL, {"note": "\ud800"}),
        ("POST", URL, {"note": "x" * 100_000}),
        ("POST", URL, {"nothing": 1}),
        ("POST", f"{URL}/schedules", {"name": "a\0", "frequency": "daily"}),
        ("POST", f"{URL}/schedules", {"name": "a", "frequency": "daily", "minute": 2**63}),
        ("POST", f"{URL}/schedules", {"name": "a", "frequency": "custom", "cron_expression": "\0" * 9}),
        ("POST", f"{URL}/schedules", {"name": "a", "frequency": "daily", "timezone": "../../etc/passwd"}),
        ("POST", f"{URL}/schedules", {"name": "a", "frequency": "monthly", "day_of_month": 10**40}),
        ("PUT", f"{URL}/settings", {"disk_reserve_bytes": 2**70}),
        ("PUT", f"{URL}/settings", {"keep_daily": -(2**63) - 1}),
        ("PUT", f"{URL}/settings", {"recipients": ["a\0@example.com"]}),
        ("PUT", f"{URL}/settings", {"channels": [{"name": "a\0", "url": "json://example.com"}]}),
        ("PUT", f"{URL}/settings", {"heartbeat_url": "https://example.com/\0"}),
        ("POST", f"{URL}/retention/plan", {"keep_weekly": False}),
        ("POST", f"{URL}/restore/cancel", {"restore_id": 1}),
        ("POST", f"{URL}/retention/plan", {"schedules": [{"id": NOBODY}]}),
        ("POST", f"{URL}/restore/undo", {"restore_id": "1"}),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else None,
)
def test_values_that_break_a_rule_are_422_and_name_the_field(
    client: FlaskClient, method: str, path: str, body: dict[str, object]
) -> None:
    answer = client.open(path, method=method, json=body)
    detail_of(answer, 422)
    assert answer.get_json()["errors"]


def test_an_uploads_note_may_not_hold_what_cannot_be_kept(client: FlaskClient) -> None:
    answer = client.post(f"{URL}/upload?note=%00", data=b"x", content_type="application/gzip")
    detail_of(answer, 422)
    assert db.session.query(BackupHistory).count() == 0


def test_what_slips_through_to_the_database_is_422_as_well(
    client: FlaskClient, make_row: Callable[..., BackupHistory], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        db.session.execute(db.select(BackupHistory.id).where(BackupHistory.note == "a\0b"))

    monkeypatch.setattr("app.services.backups.backups.list_backups", broken)
    assert "NUL" in detail_of(client.get(URL), 422)


def test_a_form_of_a_page_with_a_nul_byte_is_refused_with_a_page(app: APIFlask) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    answer = app.test_client().post("/login", data={"email": "a\0@example.com", "password": "x" * 12})
    assert answer.status_code < 500
    assert answer.mimetype == "text/html"


def test_a_browser_gets_pages_and_a_program_problems_outside_the_api(app: APIFlask) -> None:
    client = app.test_client()
    assert client.get("/nowhere", headers={"Accept": "text/html,*/*;q=0.8"}).mimetype == "text/html"
    detail_of(client.get("/nowhere", headers={"Accept": "application/problem+json"}), 404)


def test_a_broken_range_is_answered_whole_or_refused(client: FlaskClient, make_row: Callable[..., BackupHistory]) -> None:
    row = make_row()
    for value, status in (("bytes=5-", 206), ("bytes=99-", 416), ("bytes=9-1", 416), ("lines=1-2", 416), ("bytes=a-b", 416)):
        answer = client.get(f"{URL}/{row.id}/download", headers={"Range": value})
        assert answer.status_code in (status, 200), value
        if answer.status_code == 416:
            detail_of(answer, 416)


def test_a_redis_that_is_down_is_said_as_503(client: FlaskClient, app: APIFlask) -> None:
    app.extensions["redis"] = unreachable_redis()
    assert "REDIS_URL" in detail_of(client.post(URL), 503)


def test_a_session_gives_the_password_to_change_settings_and_a_token_does_not(
    browser: FlaskClient, client: FlaskClient
) -> None:
    header = csrf_header(browser)
    for sent in ({}, {"password": "wrong"}):
        refused = browser.put(f"{URL}/settings", json={"keep_daily": 9, **sent}, headers=header)
        detail_of(refused, 422)
        assert list(refused.get_json()["errors"]) == ["password"]
    changed = browser.put(f"{URL}/settings", json={"keep_daily": 9, "password": PASSWORD}, headers=header)
    assert changed.get_json()["keep_daily"] == 9
    assert client.put(f"{URL}/settings", json={"keep_daily": 10}).get_json()["keep_daily"] == 10


@pytest.mark.parametrize("query", ["page=1&page=2", "page_size=5&page_size=5", "status=failed&status=completed"])
def test_a_parameter_that_is_given_twice_is_refused(client: FlaskClient, query: str) -> None:
    answer = client.get(f"{URL}?{query}")
    assert "only once" in detail_of(answer, 422)
    assert list(answer.get_json()["errors"]) == [query.partition("=")[0]]
