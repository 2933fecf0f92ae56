"""Restores by the API: preview, execute, status, cancel, undo, trust, recovery sheet."""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.config import Settings
from app.extensions import db
from app.models import BackupHistory
from app.services.audit import audit
from app.services.backups import backups
from app.services.restores import restores
from tests.support.api_session import machine, problem
from tests.support.application import EMAIL, PASSWORD, finished, wait_for
from tests.support.databases import SourceDatabase
from tests.support.live_state import change_everything, live_state, made_backup

URL = "/api/admin/backups"
MakeRow = Callable[..., BackupHistory]
Token = Callable[..., dict[str, str]]


@pytest.fixture
def client(app: APIFlask, token: Token) -> FlaskClient:
    """A machine with a token that may restore."""
    return machine(app, token("restore"))


def closed(client: FlaskClient) -> dict[str, Any]:
    """Wait until no restore runs and return the last one as the API shows it."""
    status = f"{URL}/restore/status"
    wait_for(lambda: client.get(status).get_json()["status"] not in ("queued", "in_progress"))
    body: dict[str, Any] = client.get(status).get_json()
    return body


def test_the_whole_story_by_the_api(
    client: FlaskClient, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    problem(client.get(f"{URL}/restore/status"), 404)
    backup = made_backup()
    before = live_state(source_db, documents_dir)
    change_everything(source_db, documents_dir)
    changed = live_state(source_db, documents_dir)
    seen = client.post(f"{URL}/{backup.id}/restore/preview", json={"exact": True}).get_json()
    tables = {table["name"]: (table["rows_now"], table["rows_backup"]) for table in seen["tables"]}
    assert tables == {"vehicles": (10, 1000), "later": (1, None)}
    assert {table["schema"] for table in seen["tables"]} == {"public"}
    rows = {table["name"]: table["rows"] for table in seen["tables"]}
    examples = {"added": [str(number) for number in range(11, 21)]}
    assert rows == {"vehicles": {"added": 990, "changed": 0, "lost": 0, "key": ["id"], "examples": examples}, "later": None}
    documents = seen["documents"]
    assert (documents["added"], documents["changed"], documents["lost"]) == (1, 1, 1)
    assert documents["examples"]["lost"] == ["later.txt"]
    assert (seen["blockers"], seen["exact"], seen["confirm"], seen["signed"]) == ([], True, source_db.name, True)
    assert client.post(f"{URL}/{backup.id}/restore/preview").get_json()["exact"] is False

    answer = client.post(f"{URL}/{backup.id}/restore", json={"confirm": source_db.name})
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"{URL}/restore/status"
    body = closed(client)
    assert (body["status"], body["error"], body["backup_id"]) == ("completed", None, str(backup.id))
    assert body["undo_until"]
    assert body["undo_possible"] is True
    assert body["progress"]["percent"] == 100.0
    assert live_state(source_db, documents_dir) == before
    contract = (
        "id backup_id safety_backup_id scope status phase bytes_done bytes_total started_at finished_at error undo_until"
    )
    assert set(contract.split()) <= set(body)
    assert client.post(f"{URL}/{backup.id}/restore/preview").get_json()["restore_seconds"] > 0

    undone = client.post(f"{URL}/restore/undo").get_json()
    assert undone["undone_at"]
    assert live_state(source_db, documents_dir) == changed
    again = client.post(f"{URL}/restore/undo", json={"restore_id": body["id"]}).get_json()
    assert again["undone_at"] is None
    assert live_state(source_db, documents_dir) == before


def test_what_is_wrong_is_named(client: FlaskClient, make_row: MakeRow, source_db: SourceDatabase) -> None:
    url = f"{URL}/{make_row().id}/restore"
    assert "confirm" in problem(client.post(url, json={"confirm": "another"}), 422)["errors"]
    assert "confirm" in problem(client.post(url, json={}), 422)["errors"]
    assert "scope" in problem(client.post(url, json={"confirm": source_db.name, "scope": "half"}), 422)["errors"]
    problem(client.post(f"{URL}/{uuid.uuid4()}/restore", json={"confirm": source_db.name}), 404)
    problem(client.post(f"{URL}/{make_row('failed').id}/restore", json={"confirm": source_db.name}), 409)
    problem(client.post(f"{URL}/restore/cancel"), 409)
    problem(client.post(f"{URL}/restore/undo"), 404)


def test_an_archive_that_is_none_is_a_blocker(client: FlaskClient, make_row: MakeRow, source_db: SourceDatabase) -> None:
    row = make_row()
    seen = client.post(f"{URL}/{row.id}/restore/preview", json={"exact": True}).get_json()
    assert seen["blockers"]
    assert seen["signed"] is False


def test_a_session_types_its_password_again(
    app: APIFlask, worker: object, source_db: SourceDatabase, documents_dir: Path
) -> None:
    backup = made_backup()  # by a worker, which made the first admin when it started
    browser = app.test_client()
    app.config["WTF_CSRF_ENABLED"] = False
    browser.post("/login", data={"email": EMAIL, "password": PASSWORD})
    app.config["WTF_CSRF_ENABLED"] = True
    page = browser.get("/backups/").get_data(as_text=True)
    csrf = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert csrf
    header = {"X-CSRFToken": csrf[1]}
    url, body = f"{URL}/{backup.id}/restore", {"confirm": source_db.name}
    assert browser.post(url, json=body).status_code == 400
    assert "password" in problem(browser.post(url, json=body, headers=header), 422)["errors"]
    wrong = browser.post(url, json={**body, "password": "wrong"}, headers=header)
    assert "password" in problem(wrong, 422)["errors"]
    assert browser.post(url, json={**body, "password": PASSWORD}, headers=header).status_code == 202
    assert closed(browser)["status"] == "completed"
    form = {"file": (io.BytesIO(b""), "a.tar.gz")}
    upload = browser.post(f"{URL}/upload", data=form, headers=header)
    assert upload.status_code == 422
    assert browser.post(f"{URL}/upload", data=b"x", content_type="application/gzip").status_code == 400


def test_a_token_without_the_scope_is_refused(app: APIFlask, token: Token, make_row: MakeRow) -> None:
    row, client = make_row(), app.test_client()
    for scope in ("read", "backup"):
        for path in (f"{row.id}/restore", f"{row.id}/restore/preview", "restore/cancel", "restore/undo"):
            assert client.post(f"{URL}/{path}", json={}, headers=token(scope)).status_code == 403, path
    for path, method in ((f"{row.id}/trust", "POST"), ("recovery-sheet", "GET")):
        assert client.open(f"{URL}/{path}", method=method, headers=token("restore")).status_code == 403
    assert client.post(f"{URL}/upload", data=b"x", headers=token("read")).status_code == 403


def test_trust_is_a_typed_sentence_bound_to_the_very_archive(
    app: APIFlask, token: Token, make_row: MakeRow, worker: object, source_db: SourceDatabase, storage_dir: Path
) -> None:
    client, header = app.test_client(), token("admin")
    own = make_row()
    problem(client.post(f"{URL}/{own.id}/trust", json={"words": restores.TRUST_WORDS}, headers=header), 409)
    row = made_backup()
    row.origin = "other_key"
    db.session.commit()
    url = f"{URL}/{row.id}/trust"
    assert "words" in problem(client.post(url, json={"words": "yes"}, headers=header), 422)["errors"]
    body = client.post(url, json={"words": restores.TRUST_WORDS}, headers=header).get_json()
    assert body["trusted_at"]
    assert body["trusted_by"] == "test"
    (entry,) = audit.list_entries(action="backup.trusted").items
    assert entry.detail["sha256"] == row.sha256
    path = storage_dir / str(row.filename)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    header = token("restore")
    assert client.post(f"{URL}/{row.id}/restore", json={"confirm": source_db.name}, headers=header).status_code == 202
    client.environ_base["HTTP_AUTHORIZATION"] = header["Authorization"]
    failed = closed(client)
    assert (failed["status"], "is not the file that an admin trusted" in failed["error"]) == ("failed", True)


def test_the_recovery_sheet_is_a_download_that_the_audit_log_knows(
    app: APIFlask, token: Token, settings: Settings, source_db: SourceDatabase
) -> None:
    answer = app.test_client().get(f"{URL}/recovery-sheet", headers=token("admin"))
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    assert "attachment" in answer.headers["Content-Disposition"]
    assert answer.headers["Cache-Control"] == "no-store"
    text = answer.get_data(as_text=True)
    assert settings.signing_key_text in text
    assert source_db.password not in text
    assert "recovery_sheet.downloaded" in [entry.action for entry in audit.list_entries().items]


def test_a_backup_is_proven_by_a_test_restore(app: APIFlask, token: Token, worker: object) -> None:
    backup = made_backup()
    client, header = app.test_client(), token("backup")
    answer = client.post(f"{URL}/{backup.id}/verify", json={"restore": True}, headers=header)
    assert (answer.status_code, answer.get_json()["verify_restoring"]) == (202, True)
    wait_for(lambda: backups.get(backup.id).verify_requested_at is None)
    row = finished(backups.get(backup.id))
    assert (row.error, row.verify_restoring) == (None, False)
    assert row.restore_tested_at is not None
    assert (row.restore_test_seconds or 0) > 0
