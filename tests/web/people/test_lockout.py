"""What strangers do at the login page, and whom it does not concern."""

from __future__ import annotations

from uuid import uuid4

import pytest
from apiflask import APIFlask

from app.cli.access import admin as admin_commands
from app.runs import queue
from app.services.audit.actor import Actor
from app.services.people import admins
from tests.support.api_session import csrf_header, csrf_token
from tests.support.application import EMAIL, PASSWORD
from tests.support.browser import Browser

STRANGER, NEIGHBOUR = "203.0.113.7", "127.0.0.1"
AGAIN = "/api/admin/tokens"


def guess(app: APIFlask, number: int, address: str, email: str = EMAIL) -> list[int]:
    """Send so many wrong passwords from an address, as a client without a cookie; return the answers' statuses."""
    found = []
    for _ in range(number):
        client = app.test_client()
        client.environ_base["REMOTE_ADDR"] = address
        form = {"csrf_token": csrf_token(client, "/login"), "email": email, "password": "wrong"}
        found.append(client.post("/login", data=form).status_code)
    return found


def proves(browser: Browser, password: str = PASSWORD) -> int:
    """Return the status of something for which the password is asked again."""
    wish = {"name": "one", "scopes": ["read"], "password": password}
    return browser.client.post(AGAIN, json=wish, headers=csrf_header(browser.client)).status_code


@pytest.mark.parametrize("address", [STRANGER, NEIGHBOUR])
def test_an_admin_who_is_signed_in_can_prove_it_whatever_strangers_do(app: APIFlask, admin: Browser, address: str) -> None:
    assert set(guess(app, 40, address)) == {401, 429}
    assert proves(admin) == 201


def test_a_device_that_signed_in_before_is_let_in_whatever_strangers_do(app: APIFlask, admin: Browser) -> None:
    admin.submit("/backups/", "/logout")
    assert guess(app, 40, NEIGHBOUR)[-1] == 429
    assert admin.log_in(EMAIL, PASSWORD).location == "/"


def test_a_stranger_locks_out_nobody_at_another_address(app: APIFlask, visitor: Browser) -> None:
    assert guess(app, 7, STRANGER) == [401] * 5 + [429] * 2
    assert visitor.log_in(EMAIL, PASSWORD).location == "/"


def test_a_known_device_has_five_tries_too(app: APIFlask, admin: Browser) -> None:
    admin.submit("/backups/", "/logout")
    for _ in range(5):
        admin.submit("/login", "/login", 401, email=EMAIL, password="wrong")
    admin.submit("/login", "/login", 429, email=EMAIL, password=PASSWORD)


def test_a_forged_cookie_makes_no_known_device(app: APIFlask, visitor: Browser) -> None:
    assert guess(app, 6, NEIGHBOUR)[-1] == 429
    visitor.client.set_cookie("device", f'["{uuid4()}","made up"].signature')
    visitor.submit("/login", "/login", 429, email=EMAIL, password=PASSWORD)


def test_a_session_has_five_tries_and_another_session_its_own(app: APIFlask, admin: Browser) -> None:
    assert [proves(admin, "wrong") for _ in range(5)] == [422] * 5
    assert proves(admin) == 429
    other = Browser(app.test_client())
    other.log_in(EMAIL, PASSWORD)
    assert proves(other) == 201


def test_guesses_from_many_addresses_count_for_the_account_until_it_is_unlocked(app: APIFlask, visitor: Browser) -> None:
    statuses = [status for number in range(1, 26) for status in guess(app, 4, f"203.0.113.{number}")]
    assert statuses == [401] * 100
    visitor.submit("/login", "/login", 429, email=EMAIL, password=PASSWORD)
    done = app.test_cli_runner().invoke(admin_commands, ["unlock", EMAIL.upper()])
    assert (done.exit_code, EMAIL in done.output) == (0, True), done.output
    assert visitor.log_in(EMAIL, PASSWORD).location == "/"


def test_unlocking_lets_in_the_address_that_made_too_many_mistakes(app: APIFlask, visitor: Browser) -> None:
    assert guess(app, 6, NEIGHBOUR)[-1] == 429
    admins.unlock(Actor.system("tests"), EMAIL)
    assert visitor.log_in(EMAIL, PASSWORD).location == "/"


def test_what_a_client_sends_never_becomes_a_key(app: APIFlask, visitor: Browser) -> None:
    guess(app, 1, STRANGER, "x" * 400_000 + "@example.com")
    names = list(queue.connection().scan_iter(count=1000))
    assert names
    assert max(len(name) for name in names) < 200
