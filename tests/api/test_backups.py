"""/api/admin/backups: what machines are answered."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.models import BackupHistory
from app.runs import queue
from app.services.audit import audit
from app.services.backups import backups
from tests.support.api_session import problem

URL = "/api/admin/backups"
MakeRow = Callable[..., BackupHistory]
Token = Callable[..., dict[str, str]]


def test_a_new_backup_is_queued_and_answered_with_its_address(client: FlaskClient) -> None:
    answer = client.post(URL, json={"note": "before the upgrade"})
    assert answer.status_code == 202
    body = answer.get_json()
    assert (body["status"], body["kind"], body["note"]) == ("queued", "manual", "before the upgrade")
    assert answer.headers["Location"] == f"{URL}/{body['id']}"
    assert queue.knows(queue.BACKUPS, f"backup-{body['id']}")
    entry = audit.list_entries().items[0]
    assert (entry.action, entry.subject_id, entry.actor_kind) == ("backup.started", body["id"], "token")


def test_a_post_without_a_body_starts_a_backup(client: FlaskClient) -> None:
    assert client.post(URL).status_code == 202


def test_a_second_manual_backup_is_refused_with_the_id_of_the_first(client: FlaskClient) -> None:
    first = client.post(URL).get_json()["id"]
    refused = problem(client.post(URL), 409)
    assert refused["id"] == first
    assert "already queued" in refused["detail"]


def test_a_note_that_is_too_long_is_refused_at_its_field(client: FlaskClient) -> None:
    assert "note" in problem(client.post(URL, json={"note": "x" * 3000}), 422)["errors"]


def test_a_misspelt_field_is_an_error(client: FlaskClient) -> None:
    assert "notes" in problem(client.post(URL, json={"notes": "x"}), 422)["errors"]


def test_a_body_that_is_no_json_is_an_error(client: FlaskClient) -> None:
    problem(client.post(URL, data="{", content_type="application/json"), 400)


def test_the_list_comes_in_pages_newest_first(client: FlaskClient, make_row: MakeRow) -> None:
    rows = [make_row() for _ in range(5)]
    body = client.get(URL, query_string={"page": 2, "page_size": 2}).get_json()
    assert (body["page"], body["page_size"], body["total"]) == (2, 2, 5)
    assert [item["id"] for item in body["items"]] == [str(row.id) for row in rows[2:4]]


def test_the_list_is_filtered_by_status_and_kind(client: FlaskClient, make_row: MakeRow) -> None:
    make_row()
    failed = make_row("failed", kind="safety")
    for query in ({"status": "failed"}, {"kind": "safety"}):
        body = client.get(URL, query_string=query).get_json()
        assert [item["id"] for item in body["items"]] == [str(failed.id)]
    assert client.get(URL, query_string={"schedule_id": str(uuid.uuid4())}).get_json()["total"] == 0


@pytest.mark.parametrize("query", [{"page_size": 101}, {"page": 0}, {"status": "done"}, {"schedule_id": "x"}, {"a": 1}])
def test_a_wrong_filter_is_named(client: FlaskClient, query: dict[str, Any]) -> None:
    assert list(problem(client.get(URL, query_string=query), 422)["errors"]) == list(query)


def test_a_backup_is_shown_with_every_field_of_the_contract(client: FlaskClient, make_row: MakeRow) -> None:
    row = make_row(warnings=["one file changed"], verified_at=datetime(2026, 1, 1, tzinfo=UTC))
    body = client.get(f"{URL}/{row.id}").get_json()
    contract = (
        "id filename kind status phase bytes_done bytes_total schedule_id scheduled_for started_at finished_at size_bytes"
        " sha256 categories expires_at pinned note warnings error verified_at restore_tested_at"
    )
    assert set(contract.split()) <= set(body)
    assert body["verified_at"] == "2026-01-01T00:00:00Z"
    assert body["warnings"] == ["one file changed"]


def test_an_unknown_backup_is_not_found(client: FlaskClient) -> None:
    problem(client.get(f"{URL}/{uuid.uuid4()}"), 404)
    problem(client.get(f"{URL}/not-an-id"), 404)
    problem(client.put(f"{URL}/{uuid.uuid4()}"), 405)


def test_progress_is_of_the_present_phase(client: FlaskClient, make_row: MakeRow) -> None:
    begun, now = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 10, tzinfo=UTC)
    row = make_row(
        "in_progress", phase="database", bytes_done=250, bytes_total=1000, phase_started_at=begun, heartbeat_at=now
    )
    body = client.get(f"{URL}/{row.id}").get_json()
    assert body["phase"] == "database"
    assert body["progress"] == {"percent": 25.0, "rate_bytes_per_second": 25.0, "seconds_left": 30.0}


def test_a_backup_is_pinned_and_annotated_one_at_a_time(client: FlaskClient, make_row: MakeRow) -> None:
    row = make_row(note="old")
    assert client.patch(f"{URL}/{row.id}", json={"pinned": True}).get_json()["note"] == "old"
    body = client.patch(f"{URL}/{row.id}", json={"note": None}).get_json()
    assert (body["pinned"], body["note"]) == (True, None)
    assert [entry.detail for entry in audit.list_entries(action="backup.changed").items] == [
        {"note": None},
        {"pinned": True},
    ]


def test_a_queued_backup_is_cancelled_at_once(client: FlaskClient) -> None:
    backup_id = client.post(URL).get_json()["id"]
    assert client.post(f"{URL}/{backup_id}/cancel").get_json()["status"] == "cancelled"
    assert not queue.knows(queue.BACKUPS, f"backup-{backup_id}")
    problem(client.post(f"{URL}/{backup_id}/cancel"), 409)


def test_deleting_removes_the_file_and_the_row(client: FlaskClient, make_row: MakeRow, storage_dir: Path) -> None:
    row = make_row()
    path = storage_dir / str(row.filename)
    assert client.delete(f"{URL}/{row.id}").status_code == 204
    assert not path.exists()
    problem(client.get(f"{URL}/{row.id}"), 404)
    assert audit.list_entries().items[0].detail["filename"] == path.name


def test_a_running_backup_is_not_deleted(client: FlaskClient, make_row: MakeRow) -> None:
    row = make_row("in_progress")
    problem(client.delete(f"{URL}/{row.id}"), 409)
    assert backups.get(row.id).status == "in_progress"


def test_a_file_that_cannot_be_deleted_keeps_its_row_and_the_reason(
    client: FlaskClient, make_row: MakeRow, storage_dir: Path
) -> None:
    row = make_row()
    path = storage_dir / str(row.filename)
    path.unlink()
    path.mkdir()
    assert "could not be deleted" in problem(client.delete(f"{URL}/{row.id}"), 409)["detail"]
    assert "could not be deleted" in str(backups.get(row.id).error)


def test_the_archive_is_sent_with_its_name_and_hash(client: FlaskClient, make_row: MakeRow) -> None:
    row = make_row()
    answer = client.get(f"{URL}/{row.id}/download")
    assert answer.data == b"the archive's bytes"
    assert answer.headers["Content-Disposition"] == f"attachment; filename={row.filename}"
    assert answer.headers["ETag"] == f'"{row.sha256}"'
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_a_part_of_the_archive_is_sent(client: FlaskClient, make_row: MakeRow) -> None:
    url = f"{URL}/{make_row().id}/download"
    part = client.get(url, headers={"Range": "bytes=4-10", "If-Range": f'"{"ab" * 32}"'})
    assert (part.status_code, part.data) == (206, b"archive")
    assert part.headers["Content-Range"] == "bytes 4-10/19"
    whole = client.get(url, headers={"Range": "bytes=4-10", "If-Range": '"another"'})
    assert (whole.status_code, len(whole.data)) == (200, 19)
    assert client.get(url, headers={"If-None-Match": f'"{"ab" * 32}"'}).status_code == 304


def test_a_part_beyond_the_end_is_refused(client: FlaskClient, make_row: MakeRow) -> None:
    answer = client.get(f"{URL}/{make_row().id}/download", headers={"Range": "bytes=100-"})
    problem(answer, 416)
    assert answer.headers["Content-Range"] == "bytes */19"


def test_a_missing_archive_is_said_to_be_missing(client: FlaskClient, make_row: MakeRow, storage_dir: Path) -> None:
    row = make_row()
    (storage_dir / str(row.filename)).unlink()
    assert "no longer in the storage folder" in problem(client.get(f"{URL}/{row.id}/download"), 404)["detail"]
    problem(client.get(f"{URL}/{make_row('failed').id}/download"), 409)


def test_a_verification_is_queued_once(client: FlaskClient, make_row: MakeRow) -> None:
    row = make_row()
    assert client.post(f"{URL}/{row.id}/verify").status_code == 202
    assert queue.knows(queue.BACKUPS, f"verify-{row.id}")
    problem(client.post(f"{URL}/{row.id}/verify"), 409)
    problem(client.post(f"{URL}/{make_row('failed').id}/verify"), 409)
