"""Who may sign in, and how often they may be wrong."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from apiflask import APIFlask

from app import create_app
from app.config import Settings
from app.errors import Conflict, InvalidCredentials, InvalidInput, Throttled
from app.extensions import db
from app.models import Admin, utcnow
from app.services.audit import audit
from app.services.people import admins
from tests.support.application import EMAIL, PASSWORD, TESTER, unreachable_redis


def wrong(email: str = EMAIL, address: str = "192.0.2.1") -> None:
    """Try a wrong password."""
    with pytest.raises(InvalidCredentials):
        admins.authenticate(email, "a wrong password", address)


def test_an_admin_signs_in_and_the_password_is_kept_as_argon2id(app: APIFlask) -> None:
    admin = admins.create(TESTER, "Admin@Example.com", PASSWORD)
    assert admin.email == EMAIL
    assert admin.password_hash.startswith("$argon2id$")
    assert admins.authenticate(" ADMIN@example.com ", PASSWORD, "192.0.2.1").last_login_at is not None
    assert [entry.action for entry in audit.list_entries().items] == ["login", "admin.created"]


def test_the_sixth_wrong_password_is_throttled_in_another_container_too(app: APIFlask, settings: Settings) -> None:
    admins.create(TESTER, EMAIL, PASSWORD)
    for _ in range(5):
        wrong(address="198.51.100.9")
    with create_app(settings).app_context():
        with pytest.raises(Throttled) as caught:
            admins.authenticate(EMAIL, PASSWORD, "198.51.100.9")
        db.engine.dispose()
    assert 0 < caught.value.retry_after <= 15 * 60


def test_one_address_may_not_try_many_accounts(app: APIFlask) -> None:
    for number in range(30):
        wrong(f"somebody{number}@example.com")
    with pytest.raises(Throttled):
        admins.authenticate("another@example.com", "a wrong password", "192.0.2.1")


def test_signing_in_forgives_the_accounts_failures(app: APIFlask) -> None:
    admins.create(TESTER, EMAIL, PASSWORD)
    for _ in range(2):
        for _ in range(4):
            wrong()
        admins.authenticate(EMAIL, PASSWORD, "192.0.2.1")


def test_logins_are_counted_by_the_process_where_redis_is_down(app: APIFlask) -> None:
    admins.create(TESTER, EMAIL, PASSWORD)
    app.extensions["redis"] = unreachable_redis()
    admins.authenticate(EMAIL, PASSWORD, "192.0.2.1")
    for _ in range(5):
        wrong("alone@example.com")
    with pytest.raises(Throttled):
        admins.authenticate("alone@example.com", PASSWORD, "192.0.2.1")


def test_a_disabled_admin_cannot_sign_in(app: APIFlask) -> None:
    admin = admins.create(TESTER, EMAIL, PASSWORD)
    admin.disabled_at = utcnow()
    db.session.commit()
    with pytest.raises(InvalidCredentials):
        admins.authenticate(EMAIL, PASSWORD, "192.0.2.1")


@pytest.mark.parametrize(("email", "password", "field"), [("nobody", PASSWORD, "email"), (EMAIL, "short", "password")])
def test_what_is_wrong_is_named_by_its_field(app: APIFlask, email: str, password: str, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        admins.create(TESTER, email, password)
    assert list(caught.value.fields) == [field]


def test_two_admins_have_two_addresses(app: APIFlask) -> None:
    admins.create(TESTER, EMAIL, PASSWORD)
    with pytest.raises(Conflict):
        admins.create(TESTER, EMAIL.upper(), PASSWORD)


def test_the_first_admin_is_made_once_by_whoever_starts_first(app: APIFlask, settings: Settings) -> None:
    def start(_: int) -> None:
        with app.app_context():
            admins.ensure_first_admin(settings)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(8)))
    admins.ensure_first_admin(replace(settings, admin_email="second@example.com"))
    assert [admin.email for admin in db.session.scalars(db.select(Admin))] == [EMAIL]
