"""Sessions are kept on the server: they end when somebody ends them, whoever has a copy of the cookie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app import create_app
from app.config import Settings
from app.errors import NotFound
from app.extensions import db
from app.models import Admin, AdminSession, utcnow
from app.services.audit.actor import Actor
from app.services.people import admins, sessions
from tests.support.application import EMAIL, PASSWORD, TESTER

SessionOf = Callable[[FlaskClient], str]


@pytest.fixture
def person(app: APIFlask) -> Admin:
    """An admin."""
    return admins.create(TESTER, EMAIL, PASSWORD)


def actor_of(admin: Admin) -> Actor:
    """Return the admin as the audit log knows them."""
    return Actor("admin", str(admin.id), admin.email, "192.0.2.1")


def begin(admin: Admin) -> sessions.SignedIn:
    """Open a session."""
    return sessions.begin(admin, "192.0.2.1", "Firefox")


def test_a_session_is_found_by_what_its_cookie_remembers(person: Admin) -> None:
    signed_in = begin(person)
    found = sessions.find(signed_in.get_id())
    assert found == signed_in
    assert sessions.find("nonsense") is None
    assert sessions.find(str(person.id)) is None


@pytest.mark.parametrize(
    ("column", "age"), [("last_seen_at", sessions.IDLE), ("created_at", sessions.LONGEST)], ids=["idle", "old"]
)
def test_a_session_ends_by_itself(person: Admin, column: str, age: timedelta) -> None:
    signed_in = begin(person)
    row = db.session.get_one(AdminSession, signed_in.session_id)
    setattr(row, column, utcnow() - age + timedelta(minutes=1))
    db.session.commit()
    assert sessions.find(signed_in.get_id()) is not None
    setattr(row, column, utcnow() - age)
    db.session.commit()
    assert sessions.find(signed_in.get_id()) is None
    assert sessions.list_sessions(person.id) == []
    begin(person)
    assert db.session.scalar(db.select(db.func.count()).select_from(AdminSession)) == 1


def test_being_used_keeps_a_session_open(person: Admin) -> None:
    signed_in = begin(person)
    row = db.session.get_one(AdminSession, signed_in.session_id)
    row.last_seen_at = utcnow() - timedelta(hours=1)
    db.session.commit()
    sessions.find(signed_in.get_id())
    db.session.refresh(row)
    assert utcnow() - row.last_seen_at < timedelta(minutes=1)


def test_all_other_sessions_end_and_this_one_stays(person: Admin) -> None:
    stranger = admins.create(TESTER, "other@example.com", PASSWORD)
    kept, *others = [begin(person) for _ in range(3)]
    theirs = begin(stranger)
    assert sessions.end_others(actor_of(person), kept.session_id) == 2
    assert sessions.find(kept.get_id()) is not None
    assert [sessions.find(other.get_id()) for other in others] == [None, None]
    assert sessions.find(theirs.get_id()) is not None


def test_nobody_ends_anothers_session(person: Admin) -> None:
    theirs = begin(admins.create(TESTER, "other@example.com", PASSWORD))
    with pytest.raises(NotFound):
        sessions.end_one(actor_of(person), theirs.session_id)
    assert sessions.find(theirs.get_id()) is not None


def cookie_of(client: FlaskClient, name: str = "session") -> str:
    """Return the value of the session's cookie."""
    cookie = client.get_cookie(name)
    assert cookie is not None
    return cookie.value


def log_in(client: FlaskClient, app: APIFlask, **options: object) -> str:
    """Log in, and return the session's cookie as the server sent it."""
    app.config["WTF_CSRF_ENABLED"] = False
    answer = client.post("/login", data={"email": EMAIL, "password": PASSWORD}, **options)
    assert answer.status_code == 302
    app.config["WTF_CSRF_ENABLED"] = True
    # The other one is the device's.
    (header,) = [cookie for cookie in answer.headers.getlist("Set-Cookie") if "session=" in cookie.partition(";")[0]]
    return header


def test_a_copied_cookie_is_worth_nothing_after_logging_out(app: APIFlask, person: Admin) -> None:
    client, thief = app.test_client(), app.test_client()
    log_in(client, app)
    thief.set_cookie("session", cookie_of(client))
    assert thief.get("/account/").status_code == 200
    app.config["WTF_CSRF_ENABLED"] = False
    assert client.post("/logout").status_code == 302
    assert thief.get("/account/").status_code == 302
    assert thief.get("/api/admin/backups").status_code == 401


def test_a_cookie_from_before_the_login_stays_a_strangers(app: APIFlask, person: Admin) -> None:
    client, attacker = app.test_client(), app.test_client()
    attacker.get("/login")
    planted = cookie_of(attacker)
    client.set_cookie("session", planted)
    log_in(client, app)
    assert client.get("/account/").status_code == 200
    assert cookie_of(client) != planted
    assert attacker.get("/account/").status_code == 302


def test_each_login_has_a_session_of_its_own(app: APIFlask, person: Admin) -> None:
    ids = []
    client = app.test_client()
    for _ in range(2):
        log_in(client, app)
        with client.session_transaction() as session:
            ids.append(session["_user_id"])
        client.delete_cookie("session")
    assert ids[0] != ids[1]


def test_over_https_the_cookie_is_for_this_host_only_and_never_seen_by_scripts(
    app: APIFlask, settings: Settings, person: Admin
) -> None:
    secure = create_app(replace(settings, public_url="https://backup.example.com"))
    client = secure.test_client()
    header = log_in(client, secure, base_url="https://backup.example.com")
    name, *flags = header.split("; ")
    assert name.startswith("__Host-session=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(flags)
    assert not any(flag.startswith("Domain") for flag in flags)
    with secure.app_context():
        db.engine.dispose()


def test_without_https_scripts_do_not_see_the_cookie_either(app: APIFlask, person: Admin) -> None:
    flags = log_in(app.test_client(), app).split("; ")
    assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= set(flags)
    assert "Secure" not in flags
