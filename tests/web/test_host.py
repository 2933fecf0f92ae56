"""The Host header is whatever a client says: nothing that others read is made of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from apiflask import APIFlask

from app import create_app
from app.config import Settings
from app.extensions import db
from app.services.people import invitations
from tests.support.api_session import csrf_header
from tests.support.application import EMAIL, PASSWORD, TESTER
from tests.support.browser import Browser, Page

EVIL = "http://evil.example"


@pytest.mark.parametrize("path", ["/backups", "/schedules?a=b", "/account"])
def test_a_redirect_names_no_host(app: APIFlask, path: str) -> None:
    answer = app.test_client().get(path, base_url=EVIL)
    assert answer.status_code in (301, 302, 308)
    assert (answer.location or "").startswith("/")
    assert not (answer.location or "").startswith("//")
    assert "evil.example" not in f"{answer.headers}{answer.get_data(as_text=True)}"


@pytest.mark.parametrize("path", ["//evil.example/backups", "/\\evil.example"])
def test_a_path_does_not_become_a_host(app: APIFlask, path: str) -> None:
    location = app.test_client().get(path).location or "/"
    assert location.startswith("/")
    assert not location.startswith(("//", "/\\"))


def test_an_invitation_names_no_host_that_the_client_made_up(app: APIFlask, admin: Browser) -> None:
    headers = csrf_header(admin.client)
    session = admin.client.get_cookie("session")
    assert session is not None
    headers |= {"Cookie": f"session={session.value}"}
    wish = {"email": "new@example.com", "password": PASSWORD}
    stranger = app.test_client(use_cookies=False)
    made = stranger.post("/api/admin/admins/invitations", base_url=EVIL, json=wish, headers=headers).get_json()
    assert made["link"].startswith("/invitation?key=")
    assert "PUBLIC_URL" in made["mail_problem"]
    local = admin.client.post("/api/admin/admins/invitations", json=wish, headers=csrf_header(admin.client)).get_json()
    assert local["link"].startswith("http://localhost/invitation?key=")


def test_an_invitation_is_accepted_where_pages_come_by_https(app: APIFlask, settings: Settings) -> None:
    secure = create_app(replace(settings, public_url="https://backup.example.org"))
    with secure.app_context():
        link = invitations.invite(TESTER, EMAIL).link
        path = link.removeprefix("https://backup.example.org")
        client = secure.test_client()
        page = client.get(path, base_url="https://backup.example.org")
        assert page.headers["Referrer-Policy"] == "same-origin"
        form = Page(page).form(path) | {"new_password": PASSWORD, "again": PASSWORD}
        headers = {"Referer": link, "Accept": "text/html"}
        answer = client.post(path, base_url="https://backup.example.org", data=form, headers=headers)
        assert answer.status_code == 302
        db.session.remove()
        db.engine.dispose()
