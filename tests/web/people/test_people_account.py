"""One's own account: password, sessions; and what happens where a session has ended."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest
from apiflask import APIFlask

from app.extensions import db
from app.models import AdminSession
from app.services.audit import audit
from app.web.people.account import browser_words
from tests.support.application import EMAIL, PASSWORD
from tests.support.browser import Browser, Page

NEW = "another fine password"
CHROME_ON_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/142.0 Safari/537.36"


def second_browser(app: APIFlask) -> Browser:
    """Return another browser of the same admin."""
    browser = Browser(app.test_client())
    browser.log_in(EMAIL, PASSWORD)
    return browser


def is_logged_in(browser: Browser) -> bool:
    """Return whether the browser sees pages."""
    return browser.open("GET", "/account/").status_code == 200


def test_a_changed_password_ends_the_other_sessions_and_says_how_many(app: APIFlask, admin: Browser) -> None:
    others = [second_browser(app), second_browser(app)]
    admin.submit("/account/", "/account/password", password=PASSWORD, new_password=NEW, again=NEW)
    assert "Your password is changed. Your 2 other sessions ended." in admin.get("/account/").text
    assert [is_logged_in(other) for other in others] == [False, False]
    assert others[0].log_in(EMAIL, NEW).location == "/"


@pytest.mark.parametrize(
    ("typed", "field", "message"),
    [
        ({"password": "wrong", "new_password": NEW, "again": NEW}, "password", "The password is wrong"),
        ({"password": "", "new_password": NEW, "again": NEW}, "password", "Type the password"),
        ({"password": PASSWORD, "new_password": "short", "again": "short"}, "new_password", "at least 10 characters"),
        ({"password": PASSWORD, "new_password": "a" * 20, "again": "a" * 20}, "new_password", "different characters"),
        ({"password": PASSWORD, "new_password": PASSWORD, "again": PASSWORD}, "new_password", "current password"),
        ({"password": PASSWORD, "new_password": NEW, "again": NEW + "!"}, "again", "two different passwords"),
    ],
)
def test_each_mistake_is_told_at_its_field_and_announced(
    admin: Browser, typed: dict[str, str], field: str, message: str
) -> None:
    page = Page(admin.submit("/account/", "/account/password", 422, **typed))
    shown = page.select("input", id=field)[0]
    assert shown.get("aria-invalid") == "true"
    assert f"{field}-error" in shown.get("aria-describedby", "").split()
    assert message in page.by_id(f"{field}-error")
    assert page.select("div", id="error-summary", role="alert")
    assert page.select("a", href=f"#{field}")
    assert not any(entry.get("value") for entry in page.select("input", type="password"))


def test_the_sixth_wrong_present_password_is_told_how_long_to_wait(admin: Browser) -> None:
    for _ in range(5):
        admin.submit("/account/", "/account/password", 422, password="wrong", new_password=NEW, again=NEW)
    answer = admin.submit("/account/", "/account/password", 429, password=PASSWORD, new_password=NEW, again=NEW)
    assert "Try again in" in Page(answer).by_id("error-summary")


def test_sessions_are_listed_and_ended_one_by_one_or_all(app: APIFlask, admin: Browser) -> None:
    first, second, third = (second_browser(app) for _ in range(3))
    page = admin.get("/account/")
    assert page.text.count("This one") == 1
    ends = [form.get("action", "") for form in page.select("form") if form.get("action", "").endswith("/end")]
    assert len(ends) == 4, "one for each other session and one for all"
    admin.submit(page, ends[0])
    assert sum(map(is_logged_in, (first, second, third))) == 2
    admin.submit("/account/", "/account/sessions/end")
    assert "2 other sessions ended. You are still logged in here." in admin.get("/account/").text
    assert not any(map(is_logged_in, (first, second, third)))
    assert audit.list_entries(action="sessions.ended").total == 2


def test_nobody_ends_a_session_that_is_not_theirs(app: APIFlask, admin: Browser) -> None:
    page = admin.get("/account/")
    token = page.form("/account/password")["csrf_token"]
    url = "/account/sessions/5f6b1c1e-0000-4000-8000-000000000001/end"
    assert admin.open("POST", url, data={"csrf_token": token}).status_code == 302
    assert "There is no such session" in admin.get("/account/").text


@pytest.mark.parametrize("path", ["/account/password", "/account/sessions/end", "/tokens/new", "/admins/invite"])
def test_a_write_without_the_pages_token_is_refused(admin: Browser, path: str) -> None:
    assert admin.open("POST", path, data={"password": PASSWORD, "email": "x@example.com"}).status_code == 400


def end_all_sessions() -> None:
    """Let every session be over."""
    db.session.execute(db.delete(AdminSession))
    db.session.commit()


def test_an_ended_session_leads_back_to_the_page_after_logging_in(admin: Browser) -> None:
    end_all_sessions()
    login = admin.redirected("/backups/?status=failed")
    assert "Your session has ended." in admin.get(login).text
    assert admin.log_in(EMAIL, PASSWORD, login).location == "/backups/?status=failed"


def test_a_form_that_is_sent_too_late_leads_back_to_its_page(admin: Browser) -> None:
    page = admin.get("/account/")
    filled = page.form("/account/password")
    end_all_sessions()
    answer = admin.open("POST", "/account/password", data=filled, headers={"Referer": "http://localhost/account/?a=b"})
    assert parse_qs(urlsplit(answer.location or "").query)["next"] == ["/account/?a=b"]
    assert "What you sent was not saved." in admin.get(answer.location or "").text


def test_a_page_elsewhere_is_no_way_back(admin: Browser) -> None:
    filled = admin.get("/account/").form("/account/password")
    end_all_sessions()
    answer = admin.open("POST", "/account/password", data=filled, headers={"Referer": "http://evil.example/account/"})
    assert answer.location == "/login"


def test_browsers_are_named_as_people_name_them() -> None:
    assert browser_words(CHROME_ON_WINDOWS) == "Chrome on Windows"
    assert browser_words(f"{CHROME_ON_WINDOWS} Edg/142.0") == "Edge on Windows"
    assert browser_words("Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0") == "Firefox on Linux"
    assert browser_words("") == "An unknown browser"
