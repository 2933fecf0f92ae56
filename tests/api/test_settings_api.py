"""/api/admin/backups/settings, /metrics, and what /healthz says of schedules, mail and room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.config import ConfigError, read_settings
from app.extensions import db
from app.models import BackupHistory, Notification, utcnow
from app.services.audit import audit
from app.services.people import tokens
from tests.support.api_session import field_errors
from tests.support.application import TESTER
from tests.support.scheduling import schedule

URL = "/api/admin/backups/settings"
SECRET = "very-secret-token"
MakeRow = Callable[..., BackupHistory]
Token = Callable[..., dict[str, str]]


def test_the_settings_begin_with_the_defaults(client: FlaskClient) -> None:
    assert client.get(URL).get_json() == {
        "keep_hourly": 8, "keep_daily": 7, "keep_weekly": 4, "keep_monthly": 12,
        "notify_success": False, "notify_failure": True, "notify_warnings": True, "notify_overdue": True,
        "notify_restore": True, "notify_cleanup": True, "recipients": [], "channels": [],
        "heartbeat_url": None, "heartbeat_failure_url": None, "undo_hours": 24, "stall_minutes": 10, "audit_years": 7,
        "disk_reserve_bytes": 268435456, "mail_configured": False,
    }  # fmt: skip


def test_what_is_not_named_stays_and_changes_are_in_the_audit_log(client: FlaskClient) -> None:
    changed = client.put(URL, json={"keep_daily": 30, "undo_hours": 48}).get_json()
    assert (changed["keep_daily"], changed["undo_hours"], changed["keep_hourly"]) == (30, 48, 8)
    assert client.get(URL).get_json() == changed
    entry = audit.list_entries().items[0]
    assert (entry.action, entry.detail) == ("settings.changed", {"keep_daily": 30, "undo_hours": 48})


def test_secrets_are_never_shown_whole_and_stay_when_sent_back_masked(client: FlaskClient) -> None:
    given = {
        "channels": [{"name": "ops", "url": f"json://example.com/{SECRET}"}, {"name": "b", "url": f"ntfy://{SECRET}/topic"}],
        "heartbeat_url": f"https://hc.example.com/{SECRET}",
    }
    answer = client.put(URL, json=given)
    assert SECRET not in answer.get_data(as_text=True)
    shown = answer.get_json()
    assert shown["heartbeat_url"] == "https://hc.example.com/***"
    assert [(channel["name"], channel["url"]) for channel in shown["channels"]] == [
        ("ops", "json://***"),
        ("b", "ntfy://***"),
    ]
    back = {name: shown[name] for name in shown if name != "mail_configured"}
    assert client.put(URL, json=back).get_json() == shown
    from app.services.installation import settings

    assert [SECRET in channel.url for channel in settings.channels()] == [True, True]
    assert SECRET in str(settings.heartbeat_url("success"))
    assert SECRET not in str([entry.detail for entry in audit.list_entries().items])
    gone = client.put(URL, json={"channels": shown["channels"][1:], "heartbeat_url": None}).get_json()
    assert ([channel["name"] for channel in gone["channels"]], gone["heartbeat_url"]) == (["b"], None)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("recipients.1", {"recipients": ["a@example.com", "no address"]}),
        ("channels.0.url", {"channels": [{"name": "x", "url": "nonsense"}]}),
        ("channels.0.url", {"channels": [{"name": "x"}]}),
        ("channels.0.name", {"channels": [{"name": "", "url": "json://example.com"}]}),
        ("heartbeat_url", {"heartbeat_url": "ftp://example.com"}),
        ("heartbeat_failure_url", {"heartbeat_failure_url": "file:///etc/passwd"}),
        ("keep_monthly", {"keep_monthly": -1}),
        ("keep_monthly", {"keep_monthly": None}),
        ("undo_hours", {"undo_hours": 0}),
        ("stall_minutes", {"stall_minutes": 0}),
        ("disk_reserve_bytes", {"disk_reserve_bytes": -5}),
        ("keep_for_ever", {"keep_for_ever": 1}),
    ],
)
def test_a_bad_value_is_refused_at_its_field_and_nothing_is_changed(
    client: FlaskClient, field: str, values: dict[str, object]
) -> None:
    before = client.get(URL).get_json()
    found = field_errors(client.put(URL, json={"keep_daily": 1} | values))
    assert set(found) == {field}
    assert len(found[field]) > 10
    assert client.get(URL).get_json() == before


def test_settings_are_changed_by_admins_only(app: APIFlask, token: Token) -> None:
    assert app.test_client().put(URL, json={"keep_daily": 1}, headers=token("backup", "restore")).status_code == 403


def test_a_test_message_without_anybody_to_send_it_to_is_refused(client: FlaskClient) -> None:
    assert set(field_errors(client.post(f"{URL}/test"))) == {"recipients"}


def checks(app: APIFlask) -> dict[str, Any]:
    """Return the checks of /healthz by name, as who may know more sees them."""
    _, secret = tokens.create(TESTER, "monitor", ["read"])
    answer = app.test_client().get("/healthz", headers={"Authorization": f"Bearer {secret}"})
    return {check["name"]: check for check in answer.get_json()["checks"]}


def test_an_overdue_schedule_is_seen_in_healthz(app: APIFlask) -> None:
    row = schedule("daily", name="Nightly")
    assert checks(app)["schedules"]["ok"]
    row.next_run_at = utcnow() - timedelta(hours=2)
    db.session.commit()
    check = checks(app)["schedules"]
    assert (check["ok"], "Nightly" in check["detail"]) == (False, True)


def test_mail_that_cannot_be_sent_is_seen_in_healthz(app: APIFlask) -> None:
    assert checks(app)["notifications"]["ok"]
    db.session.add(
        Notification(
            event="failure",
            subject_key="x",
            medium="email",
            target="a@b.c",
            title="t",
            text="t",
            error="Refused.",
            attempts=1,
        )
    )
    db.session.commit()
    assert "Refused." in checks(app)["notifications"]["detail"]


def test_a_disk_without_room_for_the_next_backup_is_seen(
    app: APIFlask, make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_row(size_bytes=10**9)
    free = 2 * 10**9
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": free})())
    assert checks(app)["disk"]["ok"]
    free = 10**9
    check = checks(app)["disk"]
    assert (check["ok"], "1.4 GB" in check["detail"]) == (False, True)


def test_metrics_are_for_tokens_admins_and_allowed_addresses(app: APIFlask, token: Token, make_row: MakeRow) -> None:
    make_row(verified_at=utcnow())
    make_row("failed")
    schedule("daily", name='Night"ly')
    client = app.test_client()
    assert client.get("/metrics").status_code == 401
    answer = client.get("/metrics", headers=token("read"))
    text = answer.get_data(as_text=True)
    assert answer.mimetype == "text/plain"
    assert 'backup_backups{status="completed"} 1.0' in text
    assert 'backup_backups{status="failed"} 1.0' in text
    assert "backup_stored_bytes 19.0" in text
    assert 'backup_check_ok{check="worker"} 0.0' in text
    assert "backup_last_success_timestamp_seconds" in text
    assert 'name="Night\\"ly"' in text
    app.config["SETTINGS"] = replace(app.config["SETTINGS"], metrics_allow=("192.0.2.0/24", "127.0.0.1"))
    assert client.get("/metrics").status_code == 200
    elsewhere = client.get("/metrics", environ_overrides={"REMOTE_ADDR": "198.51.100.7"})
    assert elsewhere.status_code == 401


def test_a_network_that_is_none_is_refused_at_start(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="METRICS_ALLOW"):
        read_settings(environment | {"METRICS_ALLOW": "10.0.0.0/8, everywhere"})
    assert read_settings(environment | {"METRICS_ALLOW": "10.0.0.0/8, ::1"}).metrics_allow == ("10.0.0.0/8", "::1")
