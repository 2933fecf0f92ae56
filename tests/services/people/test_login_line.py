"""Whoever waits in line to have a password hashed holds nothing that others need meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from apiflask import APIFlask
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import InvalidCredentials, Throttled
from app.extensions import db
from app.services.monitoring import health
from app.services.people import admins, passwords
from tests.support.api_session import csrf_token
from tests.support.application import PASSWORD, TESTER

STRANGERS = 12
EMAIL = "line@example.com"


@pytest.fixture
def held_up(monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """The strangers' line, which does not move as long as the test lasts; returns what counts those who join it."""
    joined = threading.Semaphore(0)

    @contextmanager
    def waiting() -> Iterator[None]:
        joined.release()
        yield

    line = threading.BoundedSemaphore(1)
    line.acquire()
    monkeypatch.setattr(passwords.turns, "waiting", waiting)
    monkeypatch.setattr(passwords, "_strangers", line)
    return joined


def test_strangers_in_line_hold_no_connection_to_the_database(
    app: APIFlask, held_up: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    admins.create(TESTER, EMAIL, PASSWORD)
    monkeypatch.setattr(passwords, "LINE_SECONDS", 20.0)
    db.session.remove()

    def sign_in(number: int) -> str:
        with app.app_context():
            try:
                admins.authenticate(EMAIL, "wrong", f"198.51.100.{number}")
            except (InvalidCredentials, Throttled) as error:
                return type(error).__name__
            return "in"

    with ThreadPoolExecutor(STRANGERS) as pool:
        answers = [pool.submit(sign_in, number) for number in range(STRANGERS)]
        for _ in range(STRANGERS):
            assert held_up.acquire(timeout=15)
        until = time.monotonic() + 5
        while db.engine.pool.checkedout() and time.monotonic() < until:  # type: ignore[attr-defined]
            time.sleep(0.01)
        assert db.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        assert next(check for check in health.checks() if check.name == "postgresql").ok
        db.session.remove()
        passwords._strangers.release()
        assert {answer.result() for answer in answers} == {"InvalidCredentials"}


def test_a_password_that_was_changed_while_somebody_waited_in_line_is_the_one_that_counts(
    app: APIFlask, monkeypatch: pytest.MonkeyPatch
) -> None:
    admins.create(TESTER, EMAIL, PASSWORD)
    matches = passwords.matches

    def slow(password_hash: str | None, password: str, known: bool = False) -> bool:
        right = matches(password_hash, password, known)
        admins.set_password(TESTER, EMAIL, "another long password of theirs")
        return right

    monkeypatch.setattr(passwords, "matches", slow)
    with pytest.raises(InvalidCredentials):
        admins.authenticate(EMAIL, PASSWORD, "198.51.100.1")


def test_too_many_requests_for_the_database_at_once_are_asked_to_come_back(
    app: APIFlask, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.testing = False
    app.config["PROPAGATE_EXCEPTIONS"] = False

    def full(*_: object, **__: object) -> None:
        raise PoolTimeout("QueuePool limit of size 5 overflow 10 reached")

    monkeypatch.setattr(admins, "authenticate", full)
    client = app.test_client()
    token = csrf_token(client, "/login")
    answer = client.post("/login", data={"csrf_token": token, "email": EMAIL, "password": "any"})
    assert answer.status_code == 503
    assert "at once" in answer.get_data(as_text=True)
