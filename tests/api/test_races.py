"""Requests that race with a deletion: 404 or 409, never 500."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from sqlalchemy.orm.exc import StaleDataError

from app.config import Settings
from app.extensions import db
from app.http import archive_response
from app.models import BackupHistory
from app.services.audit import audit
from app.services.backups import backups
from tests.support.web_server import Web

URL = "/api/admin/backups"
Token = Callable[..., dict[str, str]]
MakeRow = Callable[..., BackupHistory]
CLIENTS, ROWS = 50, 100


def delete_behind_our_back(settings: Settings, row_id: object) -> None:
    with psycopg.connect(settings.metadata_dsn) as connection:
        connection.execute("SET lock_timeout = '200ms'")
        connection.execute("DELETE FROM backup_history WHERE id = %s", [row_id])


def test_an_archive_that_vanishes_while_its_download_begins_is_404(
    client: FlaskClient, make_row: MakeRow, storage_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, send_file = make_row(), archive_response.send_file

    def vanish(path: Path, **options: Any) -> Any:
        path.unlink()
        return send_file(path, **options)

    monkeypatch.setattr(archive_response, "send_file", vanish)
    answer = client.get(f"{URL}/{row.id}/download")
    assert (answer.status_code, str(row.filename) in answer.get_json()["detail"]) == (404, True)


def test_a_deletion_waits_for_a_change_under_way(
    app: APIFlask, client: FlaskClient, make_row: MakeRow, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    row_id, record = make_row().id, audit.record

    def delete_meanwhile(*arguments: Any, **options: Any) -> None:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            delete_behind_our_back(settings, row_id)
        record(*arguments, **options)

    monkeypatch.setattr(backups.audit, "record", delete_meanwhile)
    assert client.patch(f"{URL}/{row_id}", json={"note": "kept"}).status_code == 200


@pytest.mark.parametrize("page", [False, True], ids=["api", "page"])
def test_what_was_deleted_before_it_is_shown_is_404(
    client: FlaskClient, make_row: MakeRow, settings: Settings, monkeypatch: pytest.MonkeyPatch, page: bool
) -> None:
    row_id, get = make_row().id, backups.get

    def get_and_lose(backup_id: Any) -> BackupHistory:
        row = get(backup_id)
        db.session.commit()
        delete_behind_our_back(settings, backup_id)
        return row

    monkeypatch.setattr(backups, "get", get_and_lose)
    headers = {"Accept": "text/html"} if page else {}
    assert client.get(f"{URL}/{row_id}", headers=headers).status_code == 404


def test_what_is_overtaken_is_409(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(*arguments: Any, **options: Any) -> None:
        raise StaleDataError("UPDATE statement on table expected to update 1 row(s); 0 were matched.")

    monkeypatch.setattr(backups, "list_backups", overtaken)
    answer = client.get(URL)
    assert (answer.status_code, "same time" in answer.get_json()["detail"]) == (409, True)


def test_only_one_of_two_verifications_is_taken(client: FlaskClient, make_row: MakeRow) -> None:
    address = f"{URL}/{make_row().id}/verify"
    assert [client.post(address, json={}).status_code for _ in range(2)] == [202, 409]


@pytest.mark.heavy
@pytest.mark.timeout(600)
def test_fifty_clients_that_race_with_deletions_see_no_500(web: Web, token: Token, make_row: MakeRow) -> None:
    header, ids = token("admin"), [str(make_row().id) for _ in range(ROWS)]
    found: Counter[tuple[str, int]] = Counter()
    wrong: list[str] = []
    lock = threading.Lock()

    def work(seed: int) -> None:
        chance, connection = random.Random(seed), web.connection()
        # The clients go over the rows in the same order, so that they meet.
        for row_id in ids:
            name, method, path, body = DELETE if chance.random() < 0.06 else chance.choice(REQUESTS)
            headers = header | ({"Content-Type": "application/json"} if body is not None else {})
            connection.request(method, f"{URL}/{row_id}{path}", body, headers)
            answer = connection.getresponse()
            content = answer.read()
            with lock:
                found[name, answer.status] += 1
                if answer.status not in (200, 202, 204, 404, 409):
                    wrong.append(f"{name} {answer.status} {content[:300]!r}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, (len(wrong), wrong[:5], found)
    assert sum(found.values()) == CLIENTS * ROWS
    for name in {request[0] for request in REQUESTS}:
        assert found[name, 404], f"{name} never met a deletion: {found}"


DELETE: tuple[str, str, str, str | None] = ("delete", "DELETE", "", None)
REQUESTS: list[tuple[str, str, str, str | None]] = [
    ("get", "GET", "", None),
    ("pin", "PATCH", "", '{"pinned": true}'),
    ("unpin", "PATCH", "", '{"pinned": false, "note": "x"}'),
    ("verify", "POST", "/verify", "{}"),
    ("download", "GET", "/download", None),
    ("cancel", "POST", "/cancel", None),
    ("contents", "GET", "/contents", None),
    ("preview", "POST", "/restore/preview", "{}"),
]
