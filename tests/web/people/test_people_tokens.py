"""The pages of API tokens: made, shown once, revoked."""

from __future__ import annotations

from apiflask import APIFlask

from app.extensions import db
from app.models import ApiToken
from app.services.people import tokens
from tests.support.application import EMAIL, PASSWORD, TESTER
from tests.support.browser import Browser, Page


def make(admin: Browser, name: str = "nightly", *scopes: str) -> tuple[ApiToken, str]:
    """Make a token by the form; return its row and the secret that is shown."""
    values = {"name": name, "scopes": list(scopes or ["backup"]), "password": PASSWORD}
    answer = admin.submit("/tokens/new", "/tokens/new", **values)  # type: ignore[arg-type]
    secret = admin.get(answer.location or "").select("input", id="secret")[0].get("value", "")
    return db.session.scalars(db.select(ApiToken).where(ApiToken.name == name)).one(), secret


def may_look(app: APIFlask, secret: str) -> bool:
    """Return whether the API takes the token."""
    header = {"Authorization": f"Bearer {secret}"}
    return app.test_client().get("/api/admin/backups", headers=header).status_code == 200


def test_there_are_none_at_first(admin: Browser) -> None:
    assert "No tokens yet" in admin.get("/tokens/").text


def test_a_new_token_works_and_is_shown_only_once(app: APIFlask, admin: Browser) -> None:
    row, secret = make(admin)
    assert secret.startswith("mvb_")
    assert may_look(app, secret)
    assert row.created_by_name == EMAIL
    again = admin.get(f"/tokens/{row.id}")
    assert secret not in again.html
    assert "is not stored" in again.text
    assert secret not in admin.get("/tokens/").html


def test_the_secret_can_be_copied_without_javascript(admin: Browser) -> None:
    values = {"name": "n", "scopes": ["read"], "password": PASSWORD}
    answer = admin.submit("/tokens/new", "/tokens/new", **values)  # type: ignore[arg-type]
    page = admin.get(answer.location or "")
    field = page.select("input", id="secret")[0]
    assert "readonly" in field.attrib
    assert "js-only" in page.select("button", data_copy=field.get("value", ""))[0].get("class", "")
    assert page.response.headers["Cache-Control"] == "no-store"


def test_the_secret_is_not_readable_in_the_cookie(admin: Browser) -> None:
    values = {"name": "n", "scopes": ["read"], "password": PASSWORD}
    answer = admin.submit("/tokens/new", "/tokens/new", **values)  # type: ignore[arg-type]
    with admin.client.session_transaction() as session:
        assert "mvb_" not in str(dict(session))
    admin.get(answer.location or "")
    with admin.client.session_transaction() as session:
        assert "shown_once" not in session


def test_the_list_says_what_it_may_and_where_it_was_last_used(app: APIFlask, admin: Browser) -> None:
    _, secret = make(admin, "script", "backup", "restore")
    assert "never" in admin.get("/tokens/").text
    assert may_look(app, secret)
    text = admin.get("/tokens/").text
    for words in ("create, download, upload", "replace the live database", "just now", "from 127.0.0.1", EMAIL):
        assert words in text


def test_a_form_that_lacks_everything_is_answered_at_its_fields(admin: Browser) -> None:
    page = Page(admin.submit("/tokens/new", "/tokens/new", 422, name="", password=""))
    assert "Give the token a name" in page.by_id("name-error")
    assert "Choose at least one" in page.by_id("scopes-error")
    assert page.select("fieldset", id="scopes")[0].get("aria-describedby") == "scopes-error"
    assert [box.get("aria-invalid") for box in page.select("input", type="checkbox")] == ["true"] * 4
    assert page.select("a", href="#scopes")
    values = {"name": "n", "scopes": ["read"], "password": "wrong"}
    page = Page(admin.submit("/tokens/new", "/tokens/new", 422, **values))  # type: ignore[arg-type]
    assert "The password is wrong" in page.by_id("password-error")
    assert "checked" in page.select("input", type="checkbox", value="read")[0].attrib
    assert tokens.list_tokens() == []


def test_a_scope_that_there_is_not_is_refused(admin: Browser) -> None:
    values = {"name": "n", "scopes": ["root"], "password": PASSWORD}
    page = Page(admin.submit("/tokens/new", "/tokens/new", 422, **values))  # type: ignore[arg-type]
    assert page.by_id("scopes-error")
    assert tokens.list_tokens() == []


def test_revoking_says_what_will_happen_and_ends_the_token(app: APIFlask, admin: Browser) -> None:
    row, secret = make(admin, "old script")
    url = f"/tokens/{row.id}/revoke"
    page = admin.get(url)
    assert "it was never used" in page.text
    admin.submit(page, url)
    page = admin.get("/tokens/")
    assert "old script is revoked: whatever still uses it is refused from now on." in page.text
    assert "No active tokens" in page.text
    assert not may_look(app, secret)
    assert admin.redirected(url) == "/tokens/"


def test_a_token_of_the_command_line_is_listed_with_its_maker(admin: Browser) -> None:
    tokens.create(TESTER, "made elsewhere", ["read"])
    assert "tests" in admin.get("/tokens/").text
