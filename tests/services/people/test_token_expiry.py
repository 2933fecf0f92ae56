"""Tokens that end by themselves."""

from __future__ import annotations

from datetime import timedelta

import pytest
from apiflask import APIFlask
from flask_migrate import downgrade, upgrade
from sqlalchemy import inspect

from app.cli.access import token as token_commands
from app.errors import InvalidInput
from app.extensions import db
from app.models import utcnow
from app.services.monitoring import attention
from app.services.people import tokens
from tests.support.application import TESTER

URL = "/api/admin/tokens"


def test_a_token_works_until_its_end_and_is_spoken_of_before(app: APIFlask) -> None:
    row, secret = tokens.create(TESTER, "nightly", ["read"])
    assert row.expires_at is not None
    assert abs(row.expires_at - utcnow() - timedelta(days=365)) < timedelta(minutes=1)
    assert tokens.authenticate(secret) is not None
    assert tokens.ending() == []
    row.expires_at = utcnow() + timedelta(days=10)
    db.session.commit()
    assert [found.id for found in tokens.ending()] == [row.id]
    assert any("“nightly” ends on" in problem.text for problem in attention.standing().problems)
    row.expires_at = utcnow() - timedelta(seconds=1)
    db.session.commit()
    assert tokens.authenticate(secret) is None
    assert any("“nightly” ended on" in problem.text for problem in attention.standing().problems)
    answer = app.test_client().get(URL, headers={"Authorization": f"Bearer {secret}"})
    assert (answer.status_code, "expired" in answer.get_json()["detail"]) == (401, True)


def test_a_token_that_nobody_uses_is_not_spoken_of(app: APIFlask) -> None:
    row, _ = tokens.create(TESTER, "idle", ["read"], days=5)
    assert row.last_used_at is None
    assert tokens.ending() == []


def test_the_end_is_chosen_by_api_and_command_line(app: APIFlask) -> None:
    _, secret = tokens.create(TESTER, "admin", ["admin"], days=None)
    client, header = app.test_client(), {"Authorization": f"Bearer {secret}"}
    ends = {}
    for days in (7, None):
        made = client.post(URL, json={"name": "n", "scopes": ["read"], "days": days}, headers=header).get_json()
        ends[days] = made["expires_at"]
    assert ends[None] is None
    assert ends[7] is not None
    assert client.post(URL, json={"name": "n", "scopes": ["read"], "days": 0}, headers=header).status_code == 422
    with pytest.raises(InvalidInput, match="days"):
        tokens.create(TESTER, "n", ["read"], days=100_000)
    for arguments, words in ((["--days", "0"], "until it is revoked"), (["--days", "3"], "UTC"), ([], "UTC")):
        done = app.test_cli_runner().invoke(token_commands, ["create", "--name", "n", "--scope", "read", *arguments])
        assert (done.exit_code, words in done.output) == (0, True), done.output


def test_the_column_comes_and_goes(app: APIFlask) -> None:
    tokens.create(TESTER, "kept", ["read"])
    db.session.remove()
    downgrade(revision="0005")
    assert "expires_at" not in {column["name"] for column in inspect(db.engine).get_columns("api_tokens")}
    upgrade()
    assert [row.expires_at for row in tokens.list_tokens()] == [None]
