"""/api/admin/tokens, /api/admin/admins, /api/admin/activity."""

from __future__ import annotations

from datetime import timedelta

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.models import utcnow
from app.services.people import admins
from tests.support.api_session import csrf_header, sign_in
from tests.support.application import EMAIL, PASSWORD, TESTER

TOKENS, ADMINS, ACTIVITY = "/api/admin/tokens", "/api/admin/admins", "/api/admin/activity"
OTHER, OTHERS_PASSWORD = "other@example.com", "another long password"


def test_a_token_is_made_shown_once_used_and_revoked(app: APIFlask, client: FlaskClient) -> None:
    answer = client.post(TOKENS, json={"name": "nightly", "scopes": ["backup", "read"]})
    made = answer.get_json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    assert made["secret"].startswith(made["prefix"])
    assert made["scopes"] == ["read", "backup"]
    header = {"Authorization": f"Bearer {made['secret']}"}
    assert app.test_client().get("/api/admin/backups", headers=header).status_code == 200
    listed = client.get(TOKENS)
    assert made["secret"] not in listed.get_data(as_text=True)
    assert [item["name"] for item in listed.get_json()["items"]] == ["nightly", "test"]
    assert client.delete(f"{TOKENS}/{made['id']}").status_code == 204
    assert app.test_client().get("/api/admin/backups", headers=header).status_code == 401
    assert client.get(TOKENS).get_json()["items"][0]["revoked_at"]


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"scopes": ["read"]}, "name"),
        ({"name": "", "scopes": ["read"]}, "name"),
        ({"name": "  ", "scopes": ["read"]}, "name"),
        ({"name": "x" * 101, "scopes": ["read"]}, "name"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["root"]}, "scopes.0"),
        ({"name": "x", "scopes": "read"}, "scopes"),
    ],
)
def test_a_token_needs_a_name_and_scopes(client: FlaskClient, sent: dict[str, object], field: str) -> None:
    answer = client.post(TOKENS, json=sent)
    assert (answer.status_code, list(answer.get_json()["errors"])) == (422, [field])


def test_a_session_gives_the_password_for_a_token_and_for_an_invitation(browser: FlaskClient) -> None:
    header = csrf_header(browser)
    for path, body in ((TOKENS, {"name": "x", "scopes": ["admin"]}), (f"{ADMINS}/invitations", {"email": OTHER})):
        for password in (None, "wrong"):
            refused = browser.post(path, json={**body, "password": password}, headers=header)
            assert (refused.status_code, list(refused.get_json()["errors"])) == (422, ["password"])
        assert browser.post(path, json={**body, "password": PASSWORD}, headers=header).status_code == 201


def test_the_lists_have_pages(client: FlaskClient) -> None:
    for number in range(4):
        client.post(TOKENS, json={"name": f"token {number}", "scopes": ["read"]})
    page = client.get(f"{TOKENS}?page=2&page_size=2").get_json()
    assert [item["name"] for item in page["items"]] == ["token 1", "token 0"]
    assert (page["page"], page["page_size"], page["total"]) == (2, 2, 5)
    assert client.get(f"{TOKENS}?page=9").get_json()["items"] == []


def test_an_admin_is_disabled_at_once_and_enabled_again(app: APIFlask, client: FlaskClient) -> None:
    admins.create(TESTER, EMAIL, PASSWORD)
    other = admins.create(TESTER, OTHER, OTHERS_PASSWORD)
    theirs = sign_in(app, OTHER, OTHERS_PASSWORD)
    assert theirs.get("/api/admin/backups").status_code == 200
    shown = client.get(f"{ADMINS}/{other.id}").get_json()
    assert (shown["email"], shown["sessions"], shown["disabled_at"]) == (OTHER, 1, None)
    ended = client.post(f"{ADMINS}/{other.id}/disable")
    assert (ended.status_code, ended.get_json()) == (200, {"sessions": 1, "tokens": 0, "invitations": 0})
    assert theirs.get("/api/admin/backups").status_code == 401
    assert [item["email"] for item in client.get(ADMINS).get_json()["items"]] == [EMAIL, OTHER]
    assert client.post(f"{ADMINS}/{other.id}/enable").get_json()["disabled_at"] is None
    sign_in(app, OTHER, OTHERS_PASSWORD)
    assert client.post(f"{ADMINS}/{other.id}/remove").status_code == 200
    assert client.get(f"{ADMINS}/{other.id}").status_code == 404


def test_the_last_admin_stays_and_nobody_disables_themselves(app: APIFlask, client: FlaskClient) -> None:
    admin = admins.create(TESTER, EMAIL, PASSWORD)
    for action in ("disable", "remove"):
        refused = client.post(f"{ADMINS}/{admin.id}/{action}")
        assert refused.status_code == 409
        assert "last admin" in refused.get_json()["detail"]
    admins.create(TESTER, OTHER, OTHERS_PASSWORD)
    browser = sign_in(app, EMAIL, PASSWORD)
    refused = browser.post(f"{ADMINS}/{admin.id}/disable", json={"password": PASSWORD}, headers=csrf_header(browser))
    assert (refused.status_code, "own account" in refused.get_json()["detail"]) == (409, True)


def test_somebody_is_invited_and_the_invitation_is_withdrawn(app: APIFlask, client: FlaskClient) -> None:
    answer = client.post(f"{ADMINS}/invitations", json={"email": OTHER})
    made = answer.get_json()
    assert (answer.status_code, made["email"], made["mailed"]) == (201, OTHER, False)
    link = made["link"].partition("localhost")[2]
    assert app.test_client().get(link).status_code == 200
    listed = client.get(f"{ADMINS}/invitations")
    assert link not in listed.get_data(as_text=True)
    assert [item["id"] for item in listed.get_json()["items"]] == [made["id"]]
    assert client.delete(f"{ADMINS}/invitations/{made['id']}").status_code == 204
    assert app.test_client().get(link).status_code in (404, 410)
    assert client.delete(f"{ADMINS}/invitations/{made['id']}").status_code == 404
    assert client.post(f"{ADMINS}/invitations", json={"email": "nobody"}).status_code == 422


def test_the_activity_is_filtered_by_what_who_and_when(client: FlaskClient) -> None:
    client.post(TOKENS, json={"name": "one", "scopes": ["read"]})
    backup = client.post("/api/admin/backups").get_json()
    entries = client.get(ACTIVITY).get_json()
    assert entries["items"][0]["subject_id"] == backup["id"]
    assert entries["items"][0]["address"] == "127.0.0.1"
    assert entries["total"] >= 3
    found = client.get(f"{ACTIVITY}?action=token.").get_json()["items"]
    assert {item["action"] for item in found} == {"token.created"}
    about = client.get(f"{ACTIVITY}?subject_type=backup&subject_id={backup['id']}").get_json()
    assert about["total"] == 1
    assert client.get(f"{ACTIVITY}?actor=nobody-at-all").get_json()["total"] == 0
    later = (utcnow() + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert client.get(f"{ACTIVITY}?since={later}").get_json()["total"] == 0
    assert client.get(f"{ACTIVITY}?until={later}&page_size=1").get_json()["total"] == entries["total"]


@pytest.mark.parametrize("since", ["5", "yesterday", "2026-03-31", "2026-03-31T00:00:00", "", "99999-01-01T00:00:00Z"])
def test_a_moment_needs_its_zone(client: FlaskClient, since: str) -> None:
    assert list(client.get(f"{ACTIVITY}?since={since}").get_json()["errors"]) == ["since"]


def test_the_ends_of_time_find_what_they_should(client: FlaskClient) -> None:
    assert client.get(f"{ACTIVITY}?since=0001-01-01T00:00:00%2B23:59").get_json()["total"] >= 1
    assert client.get(f"{ACTIVITY}?since=9999-12-31T23:59:59-23:59").get_json()["total"] == 0
