"""/api/admin/backups/schedules and /retention."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.models import BackupHistory, utcnow
from app.runs import queue
from app.services.audit import audit
from tests.support.api_session import field_errors

URL = "/api/admin/backups/schedules"
MakeRow = Callable[..., BackupHistory]
Token = Callable[..., dict[str, str]]


def test_a_schedule_is_made_listed_changed_switched_and_deleted(client: FlaskClient) -> None:
    made = client.post(URL, json={"name": " Nightly ", "frequency": "daily", "timezone": "Europe/Berlin", "keep_daily": 14})
    assert made.status_code == 201
    body = made.get_json()
    assert (body["name"], body["minute"], body["hour"], body["keep_daily"], body["keep_weekly"]) == (
        "Nightly",
        0,
        3,
        14,
        None,
    )
    assert body["description"] == "At 03:00, every day (Europe/Berlin)"
    assert body["next_run_at"].endswith(("Z", "+00:00"))
    address = made.headers["Location"]
    assert client.get(address).get_json() == body
    listed = client.get(URL).get_json()
    assert (listed["total"], listed["page"], listed["page_size"], listed["items"]) == (1, 1, 50, [body])
    changed = client.put(address, json={"frequency": "monthly", "day_of_month": "last", "keep_daily": None}).get_json()
    assert (changed["day_of_month"], changed["hour"], changed["keep_daily"], changed["name"]) == ("last", 3, None, "Nightly")
    assert client.patch(f"{address}/toggle").get_json()["enabled"] is False
    assert client.patch(f"{address}/toggle").get_json()["enabled"] is True
    off = client.patch(f"{address}/toggle", json={"enabled": False}).get_json()
    assert (off["enabled"], off["next_run_at"]) == (False, None)
    assert client.patch(f"{address}/toggle", json={"enabled": False}).get_json()["enabled"] is False
    assert client.delete(address).status_code == 204
    assert client.get(address).status_code == client.delete(address).status_code == 404
    actions = [entry.action for entry in audit.list_entries().items]
    assert actions[:2] == ["schedule.deleted", "schedule.disabled"]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("name", {"name": "  "}),
        ("frequency", {"frequency": "yearly"}),
        ("frequency", {"frequency": None}),
        ("minute", {"minute": 60}),
        ("hour", {"hour": "three"}),
        ("day_of_week", {"frequency": "weekly", "day_of_week": 9}),
        ("day_of_month", {"frequency": "monthly", "day_of_month": 0}),
        ("day_of_month", {"frequency": "monthly", "day_of_month": "first"}),
        ("cron_expression", {"frequency": "custom"}),
        ("cron_expression", {"frequency": "custom", "cron_expression": "0 25 * * *"}),
        ("cron_expression", {"frequency": "custom", "cron_expression": "0 0 31 2 *"}),
        ("timezone", {"timezone": "Europe/Atlantis"}),
        ("keep_daily", {"keep_daily": -1}),
        ("keep_hourly", {"keep_hourly": 10**12}),
        ("keep_yearly", {"keep_yearly": 1}),
    ],
)
def test_a_bad_value_is_refused_at_its_field(client: FlaskClient, field: str, values: dict[str, object]) -> None:
    good = {"name": "Nightly", "frequency": "daily"}
    assert set(field_errors(client.post(URL, json=good | values))) == {field}
    address = client.post(URL, json=good).headers["Location"]
    if values != {"frequency": None}:
        assert set(field_errors(client.put(address, json=values))) == {field}


def test_a_schedule_without_a_name_is_refused(client: FlaskClient) -> None:
    assert field_errors(client.post(URL, json={"frequency": "daily"})) == {"name": "Give it a name."}


def test_the_default_of_each_frequency_is_its_default_cron(client: FlaskClient) -> None:
    for frequency, cron in (("hourly", "0 * * * *"), ("weekly", "0 3 * * 0"), ("monthly", "0 3 1 * *")):
        seen = client.post(f"{URL}/preview", json={"frequency": frequency}).get_json()
        assert (seen["cron"], len(seen["next_runs"])) == (cron, 5)


def test_a_preview_while_typing_needs_no_name_and_says_what_is_wrong(
    client: FlaskClient, app: APIFlask, token: Token
) -> None:
    good = {"frequency": "custom", "cron_expression": "*/15 * * * *"}
    seen = app.test_client().post(f"{URL}/preview", json=good, headers=token("read")).get_json()
    assert seen["words"].startswith("Every 15 minutes")
    bad = {"frequency": "custom", "cron_expression": "*/15 * *", "timezone": "x"}
    assert set(field_errors(client.post(f"{URL}/preview", json=bad))) == {"cron_expression", "timezone"}


def test_run_now_starts_a_backup_of_the_schedule(client: FlaskClient) -> None:
    schedule = client.post(URL, json={"name": "Nightly", "frequency": "daily"}).get_json()
    answer = client.post(f"{URL}/{schedule['id']}/run")
    body = answer.get_json()
    assert (answer.status_code, body["kind"], body["schedule_id"]) == (202, "manual", schedule["id"])
    assert queue.knows(queue.BACKUPS, f"backup-{body['id']}")
    refused = client.post(f"{URL}/{schedule['id']}/run")
    assert (refused.status_code, refused.get_json()["id"]) == (409, body["id"])
    listed = client.get(f"/api/admin/backups?schedule_id={schedule['id']}").get_json()
    assert [item["id"] for item in listed["items"]] == [body["id"]]


def test_schedules_are_changed_by_admins_only(app: APIFlask, token: Token) -> None:
    client = app.test_client()
    assert client.post(URL, json={"name": "x", "frequency": "daily"}, headers=token("backup", "restore")).status_code == 403
    assert client.get(URL, headers=token("read")).status_code == 200


def test_a_policy_is_tried_dry(client: FlaskClient, make_row: MakeRow) -> None:
    now = utcnow()
    rows = [make_row(started_at=now - timedelta(minutes=10 * n), verified_at=now) for n in range(12)]
    wanted = [str(row.id) for row in rows]
    present = client.post("/api/admin/backups/retention/plan").get_json()
    assert present["quotas"] == {"keep_hourly": 8, "keep_daily": 7, "keep_weekly": 4, "keep_monthly": 12}
    assert present["newly_deleted"] == []
    none = {"keep_hourly": 2, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0}
    tried = client.post("/api/admin/backups/retention/plan", json=none).get_json()
    assert [entry["backup_id"] for entry in tried["would_keep"]] == wanted[:2]
    assert [entry["backup_id"] for entry in tried["would_delete"]] == wanted[2:]
    assert (tried["kept"], tried["deleted"], tried["deleted_bytes"]) == (2, 10, 190)
    assert set(tried["newly_deleted"]) == set(wanted[2:]) - {entry["backup_id"] for entry in present["would_delete"]}
    assert len(tried["forecast"]) == 3
    assert client.get("/api/admin/backups").get_json()["total"] == 12
    explained = client.get(f"/api/admin/backups/{wanted[0]}/retention").get_json()
    assert explained["text"].startswith("Kept as hourly 1 of 8")
    cleaned = client.post("/api/admin/backups/retention/cleanup").get_json()
    assert len(cleaned["deleted"]) == len(present["would_delete"])


def test_a_policy_of_a_schedule_is_tried_dry(client: FlaskClient, make_row: MakeRow) -> None:
    schedule = client.post(URL, json={"name": "Hourly", "frequency": "hourly"}).get_json()
    now = utcnow()
    for number in range(5):
        make_row(started_at=now - timedelta(minutes=number), verified_at=now, schedule_id=uuid.UUID(schedule["id"]))
    tried = {"id": schedule["id"], "keep_hourly": 1, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0}
    found = client.post("/api/admin/backups/retention/plan", json={"schedules": [tried]}).get_json()
    assert (found["kept"], found["deleted"]) == (1, 4)
    unknown = client.post("/api/admin/backups/retention/plan", json={"schedules": [{"id": str(uuid.uuid4())}]})
    assert set(field_errors(unknown)) == {"schedules.0.id"}
    assert set(field_errors(client.post("/api/admin/backups/retention/plan", json={"keep_daily": -1}))) == {"keep_daily"}
