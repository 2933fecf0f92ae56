"""What a session alone is not enough for, through the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app.models import BackupHistory, Restore
from app.services.backups import backups
from app.services.inputs import ScheduleInput
from app.services.schedules import schedules
from tests.support.api_session import csrf_header
from tests.support.application import PASSWORD, TESTER
from tests.support.restore_pages import make_restore

URL = "/api/admin/backups"
Make = Callable[..., BackupHistory]


@pytest.fixture
def calls(make_row: Make) -> dict[str, tuple[str, str, dict[str, Any], int]]:
    """Each call with the method, address, body and status of its success."""
    row, pinned, foreign = make_row(), make_row(pinned=True), make_row(origin="foreign")
    schedule = schedules.create(TESTER, ScheduleInput(name="Nights", frequency="daily", keep_daily=9))
    restore: Restore = make_restore()
    return {
        "delete": ("DELETE", f"{URL}/{row.id}", {}, 204),
        "unpin": ("PATCH", f"{URL}/{pinned.id}", {"pinned": False}, 200),
        "trust": ("POST", f"{URL}/{foreign.id}/trust", {"words": "I trust this archive"}, 200),
        "quotas": ("PUT", f"{URL}/schedules/{schedule.id}", {"keep_daily": 1}, 200),
        "sheet": ("POST", f"{URL}/recovery-sheet", {}, 200),
        # There is no old state on the disk that could be exchanged: who gets so far has been let in.
        "undo": ("POST", f"{URL}/restore/undo", {"restore_id": str(restore.id)}, 503),
    }


def test_a_session_gives_its_password_again_and_a_token_does_not(
    browser: FlaskClient, calls: dict[str, tuple[str, str, dict[str, Any], int]]
) -> None:
    header = csrf_header(browser)
    for name, (method, path, body, success) in calls.items():
        for given in ({}, {"password": ""}, {"password": "wrong"}):
            answer = browser.open(path, method=method, json=body | given, headers=header)
            assert (answer.status_code, list(answer.get_json()["errors"])) == (422, ["password"]), (name, given)
        answer = browser.open(path, method=method, json=body | {"password": PASSWORD}, headers=header)
        assert answer.status_code == success, (name, answer.get_data(as_text=True))


def test_a_token_gives_no_password(
    app: APIFlask, calls: dict[str, tuple[str, str, dict[str, Any], int]], token: Callable[..., dict[str, str]]
) -> None:
    client, header = app.test_client(), token("admin")
    for name, (method, path, body, success) in calls.items():
        answer = client.open(path, method=method, json=body, headers=header)
        assert answer.status_code == success, (name, answer.get_data(as_text=True))


def test_the_recovery_sheet_is_not_for_a_link_that_a_session_follows(
    app: APIFlask, browser: FlaskClient, token: Callable[..., dict[str, str]]
) -> None:
    assert browser.get(f"{URL}/recovery-sheet").status_code == 422
    sheet = app.test_client().get(f"{URL}/recovery-sheet", headers=token("admin"))
    assert "SIGNING KEY" in sheet.get_data(as_text=True)


def test_pins_and_notes_need_no_password(browser: FlaskClient, make_row: Make) -> None:
    row = make_row()
    wish = {"pinned": True, "note": "keep"}
    assert browser.patch(f"{URL}/{row.id}", json=wish, headers=csrf_header(browser)).status_code == 200
    assert backups.get(row.id).pinned
