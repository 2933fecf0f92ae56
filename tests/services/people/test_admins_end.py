"""Admins who are disabled, removed, or forget their password; and the last one, who stays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from apiflask import APIFlask

from app.errors import Conflict, DomainError, InvalidInput, NotFound, Unauthenticated
from app.extensions import db
from app.models import Admin, AdminInvitation
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.people import admins, invitations, passwords, sessions, tokens
from tests.support.application import EMAIL, PASSWORD, TESTER

OTHER, THIRD = "other@example.com", "third@example.com"


def make(email: str = EMAIL) -> Actor:
    """Make an admin and return them as an actor."""
    admin = admins.create(TESTER, email, PASSWORD)
    return Actor("admin", str(admin.id), email, "192.0.2.1")


def id_of(actor: Actor) -> UUID:
    """Return the admin's id."""
    return admins.find(actor.name).id


def enabled() -> list[str]:
    """Return the addresses of those who can log in."""
    return [person.email for person in admins.list_admins() if person.disabled_at is None]


@pytest.mark.parametrize("action", [admins.disable, admins.remove])
def test_the_last_admin_stays_whoever_asks(app: APIFlask, action: Callable[..., Any]) -> None:
    me = make()
    for actor, password in ((me, PASSWORD), (TESTER, None), (Actor("token", "x", "script"), None)):
        with pytest.raises(Conflict, match="last admin"):
            action(actor, id_of(me), password)
    assert enabled() == [EMAIL]


def test_a_disabled_admin_does_not_count_as_another_one(app: APIFlask) -> None:
    me, other = make(), make(OTHER)
    admins.disable(me, id_of(other), PASSWORD)
    with pytest.raises(Conflict, match="last admin"):
        admins.disable(TESTER, id_of(me))
    admins.remove(me, id_of(other), PASSWORD)
    assert [person.email for person in admins.list_admins()] == [EMAIL]


def test_nobody_disables_or_removes_themselves(app: APIFlask) -> None:
    me, _ = make(), make(OTHER)
    for action in (admins.disable, admins.remove):
        with pytest.raises(Conflict, match="your own account"):
            action(me, id_of(me), PASSWORD)
    assert len(enabled()) == 2


@pytest.mark.parametrize("bystanders", [[], [THIRD]], ids=["two admins", "three admins"])
@pytest.mark.parametrize("action", [admins.disable, admins.remove])
def test_of_two_who_disable_each_other_at_once_only_one_succeeds(
    app: APIFlask, action: Callable[..., Any], bystanders: list[str]
) -> None:
    pair = [make(), make(OTHER)]
    for email in bystanders:
        make(email)
    ids = [id_of(actor) for actor in pair]
    db.session.rollback()
    at_once = threading.Barrier(2)

    def strike(number: int) -> bool:
        with app.app_context():
            at_once.wait()
            try:
                action(pair[number], ids[1 - number], PASSWORD)
                return True
            except (Conflict, Unauthenticated, NotFound):
                return False

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(strike, range(2)))
    assert sorted(done) == [False, True]
    assert len(enabled()) == 1 + len(bystanders)


def test_everything_ends_at_once_and_is_counted(app: APIFlask) -> None:
    me, other = make(), make(OTHER)
    their_session = sessions.begin(admins.find(OTHER), "192.0.2.2", "Firefox")
    _, secret = tokens.create(other, "script", ["read"], PASSWORD)
    _, mine = tokens.create(me, "mine", ["read"], PASSWORD)
    invitations.invite(other, THIRD, PASSWORD)
    ended = admins.disable(me, id_of(other), PASSWORD)
    assert ended == admins.Ended(sessions=1, tokens=1, invitations=1)
    assert sessions.find(their_session.get_id()) is None
    assert tokens.authenticate(secret) is None
    assert tokens.authenticate(mine) is not None
    assert db.session.scalar(db.select(AdminInvitation)) is None
    entry = audit.list_entries(action="admin.disabled").items[0]
    assert entry.detail == {"email": OTHER, "sessions": 1, "tokens": 1, "invitations": 1}
    assert admins.disable(me, id_of(other), PASSWORD) == admins.Ended(0, 0)


def test_a_disabled_admin_makes_no_token_with_a_request_that_was_under_way(app: APIFlask) -> None:
    me, other = make(), make(OTHER)
    admins.disable(me, id_of(other), PASSWORD)
    with pytest.raises(Unauthenticated):
        tokens.create(other, "late", ["admin"], PASSWORD)
    with pytest.raises(Unauthenticated):
        admins.disable(other, id_of(me), PASSWORD)
    assert tokens.list_tokens() == []


def test_what_needs_the_password_again_is_refused_without_it(app: APIFlask) -> None:
    me, other = make(), make(OTHER)
    other_id = id_of(other)
    tries = [
        lambda: tokens.create(me, "t", ["read"]),
        lambda: invitations.invite(me, THIRD),
        lambda: admins.disable(me, other_id),
        lambda: admins.enable(me, other_id, "wrong password"),
        lambda: admins.remove(me, other_id, ""),
    ]
    for attempt in tries:
        with pytest.raises(InvalidInput) as caught:
            attempt()
        assert list(caught.value.fields) == ["password"]
    assert len(enabled()) == 2


def test_changing_the_password_takes_the_old_one_and_ends_the_other_sessions(app: APIFlask) -> None:
    me = make()
    kept, other = (sessions.begin(admins.find(EMAIL), "192.0.2.2", "Firefox") for _ in range(2))
    for old, new, field in (
        ("wrong", "a brand new password", "password"),
        (PASSWORD, "short", "new_password"),
        (PASSWORD, PASSWORD, "new_password"),
        (PASSWORD, EMAIL, "new_password"),
    ):
        with pytest.raises(InvalidInput) as caught:
            admins.change_password(me, kept.session_id, old, new)
        assert field in caught.value.fields
    assert admins.change_password(me, kept.session_id, PASSWORD, "a brand new password") == 1
    assert sessions.find(kept.get_id()) is not None
    assert sessions.find(other.get_id()) is None
    assert admins.authenticate(EMAIL, "a brand new password", "192.0.2.1").email == EMAIL


def test_a_forgotten_password_is_set_anew_on_the_server(app: APIFlask) -> None:
    make()
    theirs = sessions.begin(admins.find(EMAIL), "192.0.2.2", "Firefox")
    assert admins.set_password(TESTER, EMAIL, "a brand new password") == 1
    assert sessions.find(theirs.get_id()) is None
    assert admins.authenticate(EMAIL, "a brand new password", "192.0.2.1").email == EMAIL
    assert audit.list_entries(action="password.reset").total == 1
    with pytest.raises(NotFound):
        admins.set_password(TESTER, "nobody@example.com", "a brand new password")


def test_a_link_that_two_open_at_once_makes_one_admin(app: APIFlask) -> None:
    secret = invitations.invite(make(), OTHER, PASSWORD).link.rpartition("=")[2]
    at_once = threading.Barrier(2)

    def accept(_: int) -> bool:
        with app.app_context():
            at_once.wait()
            try:
                return invitations.accept(secret, PASSWORD, "192.0.2.1").email == OTHER
            except (NotFound, Conflict):
                return False

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(accept, range(2))) == [False, True]
    assert len(enabled()) == 2


def test_an_unknown_account_takes_as_much_work_as_a_known_one(app: APIFlask, monkeypatch: pytest.MonkeyPatch) -> None:
    make()
    admins.disable(TESTER, id_of(make(OTHER)))
    checked: list[str] = []
    real = passwords._hasher.verify

    def verify(kept: str, typed: str) -> bool:
        checked.append(kept.rpartition("$")[0].rpartition("$")[0])
        return bool(real(kept, typed))

    monkeypatch.setattr(passwords, "_hasher", type("Spy", (), {"verify": staticmethod(verify)})())
    for email in (EMAIL, OTHER, "nobody@example.com"):
        with pytest.raises(DomainError, match=r"Email or password is wrong\."):
            admins.authenticate(email, "wrong", "192.0.2.7")
    assert len(checked) == 3
    assert len(set(checked)) == 1, "each is hashed with the same effort"


def test_an_address_with_a_nul_is_nobody(app: APIFlask) -> None:
    with pytest.raises(DomainError, match=r"Email or password is wrong\."):
        admins.authenticate("a\0b@example.com", "wrong\0", "192.0.2.1")
    assert db.session.scalar(db.select(Admin)) is None
