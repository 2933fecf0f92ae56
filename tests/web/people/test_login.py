"""Logging in and out."""

from __future__ import annotations

import pytest
from apiflask import APIFlask

from tests.support.application import EMAIL, PASSWORD
from tests.support.browser import Browser, Page


def test_the_right_password_opens_the_start_page(visitor: Browser) -> None:
    answer = visitor.log_in(EMAIL, PASSWORD)
    assert answer.location == "/"
    assert visitor.get("/").by_id("verdict-title")
    assert EMAIL in visitor.get("/backups/").text


def test_one_is_sent_on_to_the_page_one_asked_for(visitor: Browser) -> None:
    login = visitor.redirected("/backups/?status=failed")
    assert login.startswith("/login?next=")
    assert visitor.log_in(EMAIL, PASSWORD, login).location == "/backups/?status=failed"


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/%5Cevil.example"])
def test_one_is_not_sent_on_to_another_site(visitor: Browser, target: str) -> None:
    assert visitor.log_in(EMAIL, PASSWORD, f"/login?next={target}").location == "/"


@pytest.mark.parametrize(("email", "password"), [(EMAIL, "not the password"), ("nobody@example.com", PASSWORD)])
def test_a_wrong_password_and_an_unknown_account_get_the_same_answer(visitor: Browser, email: str, password: str) -> None:
    page = Page(visitor.submit("/login", "/login", 401, email=email, password=password))
    assert page.by_id("error-summary") == "Email or password is wrong."
    assert page.select("input", id="email")[0].get("value") == email
    assert not page.select("input", id="password")[0].get("value")


def test_an_empty_form_is_answered_at_its_fields(visitor: Browser) -> None:
    page = Page(visitor.submit("/login", "/login", 422, email="", password=""))
    assert page.by_id("email-error") == "Enter your email address."
    assert page.by_id("password-error") == "Enter your password."
    assert page.select("input", id="email")[0].get("aria-invalid") == "true"
    assert page.select("input", id="email")[0].get("aria-describedby") == "email-error"
    assert [link.get("href") for link in page.select("a") if "#" in link.get("href", "")][-2:] == [
        "#email",
        "#password",
    ]


def test_the_sixth_wrong_password_is_told_how_long_to_wait(visitor: Browser) -> None:
    for _ in range(5):
        visitor.submit("/login", "/login", 401, email=EMAIL, password="wrong")
    answer = visitor.submit("/login", "/login", 429, email=EMAIL, password=PASSWORD)
    assert int(answer.headers["Retry-After"]) > 0
    assert "Try again in" in Page(answer).by_id("error-summary")


def test_a_login_starts_a_session_of_its_own(app: APIFlask, visitor: Browser) -> None:
    visitor.get("/login")
    with visitor.client.session_transaction() as before:
        before["left over"] = "from somebody else"
        token = before["csrf_token"]
    visitor.log_in(EMAIL, PASSWORD)
    with visitor.client.session_transaction() as after:
        assert "left over" not in after
        assert after.get("csrf_token") != token
        first = after["_user_id"]
    visitor.submit("/backups/", "/logout")
    visitor.log_in(EMAIL, PASSWORD)
    with visitor.client.session_transaction() as again:
        assert again["_user_id"] != first


def test_after_logging_out_the_pages_ask_for_a_login(admin: Browser) -> None:
    assert admin.submit("/backups/", "/logout").location == "/login"
    assert "You are logged out." in admin.get("/login").text
    assert admin.redirected("/backups/").startswith("/login")


def test_a_login_without_its_token_is_refused(visitor: Browser) -> None:
    answer = visitor.open("POST", "/login", data={"email": EMAIL, "password": PASSWORD})
    assert answer.status_code == 400
    assert "Bad request" in Page(answer).text


def test_who_is_logged_in_does_not_get_the_form_again(admin: Browser) -> None:
    assert admin.redirected("/login") == "/"
