"""/healthz and /readyz."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.config import Settings
from app.extensions import db
from app.models import Notification, utcnow
from app.services.inputs import ScheduleInput
from app.services.monitoring import health
from app.services.people import admins
from app.services.schedules import last_ticks, schedules
from tests.support.application import EMAIL, PASSWORD, TESTER, Processes, unreachable_redis
from tests.support.databases import SourceDatabase


def test_health_is_always_200_and_names_what_is_missing(app: APIFlask) -> None:
    answer = app.test_client().get("/healthz")
    assert answer.status_code == 200
    body = answer.get_json()
    assert body["status"] == "degraded"
    found = {check["name"]: check for check in body["checks"]}
    assert found["postgresql"]["ok"]
    assert found["redis"]["ok"]
    assert not found["worker"]["ok"]
    assert "flask worker" in found["worker"]["detail"]
    assert "flask scheduler" in found["scheduler"]["detail"]


def test_a_tick_is_seen(app: APIFlask) -> None:
    last_ticks.ran(last_ticks.CHECK)
    checks = app.test_client().get("/healthz").get_json()["checks"]
    assert {check["name"]: check["ok"] for check in checks}["scheduler"]


def test_ready_needs_postgresql_and_redis(app: APIFlask, metadata_url: str, source_db: SourceDatabase) -> None:
    client = app.test_client()
    assert client.get("/readyz").status_code == 200
    app.extensions["redis"] = unreachable_redis()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert {check["name"]: check["ok"] for check in answer.get_json()["checks"]} == {"postgresql": True, "redis": False}
    assert client.get("/healthz").status_code == 200


def test_health_survives_a_lost_database(app: APIFlask, settings: Settings, source_db: SourceDatabase) -> None:
    name = psycopg.conninfo.conninfo_to_dict(settings.metadata_dsn)["dbname"]
    db.session.remove()
    db.engine.dispose()
    with psycopg.connect(source_db.server.url("postgres"), autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        try:
            answer = app.test_client().get("/healthz")
            page = app.test_client().get("/api/admin/backups", headers={"Authorization": "Bearer x"})
        finally:
            connection.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
    assert answer.status_code == 200
    assert "DATABASE_URL" in answer.get_data(as_text=True)
    assert settings.secret_key not in answer.get_data(as_text=True)
    assert page.status_code == 503
    assert "DATABASE_URL" in page.get_json()["detail"]


def test_a_browser_gets_a_page_where_the_database_is_lost(app: APIFlask, source_db: SourceDatabase) -> None:
    client = app.test_client()
    admins.create(TESTER, EMAIL, PASSWORD)
    app.config["WTF_CSRF_ENABLED"] = False
    assert client.post("/login", data={"email": EMAIL, "password": PASSWORD}).status_code == 302
    db.session.remove()
    db.engine.dispose()
    with psycopg.connect(source_db.server.url("postgres"), autocommit=True) as connection:
        name = str(db.engine.url.database)
        connection.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false')
        try:
            answer = client.get("/backups/", headers={"Accept": "text/html"})
        finally:
            connection.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true')
    assert (answer.status_code, answer.mimetype) == (503, "text/html")
    assert "DATABASE_URL" in answer.get_data(as_text=True)


def test_worker_and_scheduler_have_two_minutes_to_start_with_the_web_process(
    app: APIFlask, monkeypatch: pytest.MonkeyPatch
) -> None:
    health.begins(app)
    found = {check["name"]: check for check in app.test_client().get("/healthz").get_json()["checks"]}
    assert found["scheduler"] == {"name": "scheduler", "ok": True, "detail": "The scheduler has not ticked yet."}
    assert found["worker"]["ok"]
    later = utcnow() + timedelta(minutes=2, seconds=1)
    monkeypatch.setattr(health, "utcnow", lambda: later)
    found = {check["name"]: check for check in app.test_client().get("/healthz").get_json()["checks"]}
    assert not found["scheduler"]["ok"]
    assert not found["worker"]["ok"]


def test_a_command_is_not_lenient(app: APIFlask, processes: Processes) -> None:
    done = processes.run("doctor")
    assert "PROBLEM scheduler" in done.stdout
    assert "PROBLEM worker" in done.stdout


def test_strangers_learn_that_something_is_wrong_and_no_more(
    app: APIFlask, token: Callable[..., dict[str, str]], browser: FlaskClient
) -> None:
    secret = "The mail server refused someone@example.org: 550 mailbox of ACME is full"
    about = {
        "event": "failure",
        "subject_key": "x",
        "title": "t",
        "text": "t",
        "medium": "email",
        "target": "someone@example.org",
    }
    db.session.add(Notification(**about, status="pending", error=secret))
    schedule = schedules.create(TESTER, ScheduleInput(name="Customers of ACME", frequency="hourly"))
    schedule.next_run_at = utcnow() - timedelta(hours=5)
    db.session.commit()
    public = app.test_client().get("/healthz").get_json()
    assert {check["name"]: check["ok"] for check in public["checks"]}["notifications"] is False
    assert not any(word in str(public) for word in ("someone", "ACME", "550", " GB", "UTC"))
    for client, headers in ((app.test_client(), token("read")), (browser, {})):
        known = client.get("/healthz", headers=headers).get_json()
        assert [check["ok"] for check in known["checks"]] == [check["ok"] for check in public["checks"]]
        assert "ACME is full" in str(known)
        assert "Customers of ACME" in str(known)
    wrong = app.test_client().get("/healthz", headers={"Authorization": "Bearer mvb_wrong"})
    assert (wrong.status_code, "ACME" in wrong.get_data(as_text=True)) == (200, False)
