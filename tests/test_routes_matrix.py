"""Who may do what: every route with every method × nobody, a token of each scope, an admin's session.

A new route fails the first test until it is entered here by hand: that is the moment to ask who should get in.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.models.api_tokens import SCOPES
from tests.support.api_session import browser, csrf_header, csrf_token, sign_in
from tests.support.application import EMAIL, PASSWORD

__all__ = ["browser"]

Route = tuple[str, str]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
# Who gets in, by whom: "public" are all, "session" an admin's session alone; a scope is that scope, `admin`, and a session.
# Every scope covers `read`.
TABLE = {
    "public": """
        GET /static/<path:filename>
        GET /healthz
        GET /readyz
        GET /bootstrap/static/<path:filename>
        GET /
        GET /login
        POST /login
        GET /invitation
        POST /invitation
    """,
    "read": """
        GET /api/admin/backups
        GET /api/admin/backups/<uuid:backup_id>
        GET /api/admin/backups/<uuid:backup_id>/contents
        GET /api/admin/backups/<uuid:backup_id>/contents/documents
        GET /api/admin/backups/restore/status
        GET /api/admin/backups/restores
        GET /api/admin/backups/restores/<uuid:restore_id>
        GET /api/admin/backups/schedules
        POST /api/admin/backups/schedules/preview
        GET /api/admin/backups/schedules/<uuid:schedule_id>
        GET /api/admin/backups/settings
        POST /api/admin/backups/retention/plan
        GET /api/admin/backups/<uuid:backup_id>/retention
        GET /metrics
        GET /api/openapi.json
        GET /api/docs
        GET /api/docs/<path:name>
    """,
    "backup": """
        POST /api/admin/backups
        PATCH /api/admin/backups/<uuid:backup_id>
        GET /api/admin/backups/<uuid:backup_id>/download
        POST /api/admin/backups/<uuid:backup_id>/cancel
        POST /api/admin/backups/<uuid:backup_id>/verify
        GET /api/admin/backups/<uuid:backup_id>/contents/document
        POST /api/admin/backups/upload
        POST /api/admin/backups/schedules/<uuid:schedule_id>/run
    """,
    "restore": """
        POST /api/admin/backups/<uuid:backup_id>/restore/preview
        POST /api/admin/backups/<uuid:backup_id>/restore
        POST /api/admin/backups/restore/cancel
        POST /api/admin/backups/restore/undo
    """,
    "admin": """
        DELETE /api/admin/backups/<uuid:backup_id>
        POST /api/admin/backups/<uuid:backup_id>/trust
        GET /api/admin/backups/recovery-sheet
        POST /api/admin/backups/recovery-sheet
        POST /api/admin/backups/schedules
        PUT /api/admin/backups/schedules/<uuid:schedule_id>
        DELETE /api/admin/backups/schedules/<uuid:schedule_id>
        PATCH /api/admin/backups/schedules/<uuid:schedule_id>/toggle
        PUT /api/admin/backups/settings
        POST /api/admin/backups/settings/test
        POST /api/admin/backups/retention/cleanup
        GET /api/admin/tokens
        POST /api/admin/tokens
        DELETE /api/admin/tokens/<uuid:token_id>
        GET /api/admin/admins
        GET /api/admin/admins/<uuid:admin_id>
        POST /api/admin/admins/<uuid:admin_id>/disable
        POST /api/admin/admins/<uuid:admin_id>/enable
        POST /api/admin/admins/<uuid:admin_id>/remove
        GET /api/admin/admins/invitations
        POST /api/admin/admins/invitations
        DELETE /api/admin/admins/invitations/<uuid:invitation_id>
        GET /api/admin/activity
    """,
    "session": """
        POST /logout
        GET /backups/
        POST /backups/
        GET /backups/<uuid:backup_id>
        GET /backups/<uuid:backup_id>/partial
        GET /backups/<uuid:backup_id>/download
        POST /backups/<uuid:backup_id>/note
        POST /backups/<uuid:backup_id>/pin
        GET /backups/<uuid:backup_id>/unpin
        POST /backups/<uuid:backup_id>/unpin
        POST /backups/<uuid:backup_id>/cancel
        POST /backups/<uuid:backup_id>/verify
        GET /backups/<uuid:backup_id>/delete
        POST /backups/<uuid:backup_id>/delete
        GET /backups/<uuid:backup_id>/tables
        GET /backups/<uuid:backup_id>/documents
        GET /backups/<uuid:backup_id>/documents/file
        GET /restores/
        GET /restores/new
        GET /backups/<uuid:backup_id>/restore
        GET /backups/<uuid:backup_id>/restore/exact
        GET /backups/<uuid:backup_id>/restore/confirm
        POST /backups/<uuid:backup_id>/restore/confirm
        GET /backups/<uuid:backup_id>/trust
        POST /backups/<uuid:backup_id>/trust
        GET /restores/<uuid:restore_id>
        GET /restores/<uuid:restore_id>/partial
        POST /restores/<uuid:restore_id>/cancel
        GET /restores/<uuid:restore_id>/undo
        POST /restores/<uuid:restore_id>/undo
        GET /backups/upload
        POST /backups/upload
        GET /schedules/
        GET /schedules/new
        POST /schedules/new
        GET /schedules/<uuid:schedule_id>
        POST /schedules/<uuid:schedule_id>
        GET /schedules/preview
        POST /schedules/<uuid:schedule_id>/toggle
        POST /schedules/<uuid:schedule_id>/run
        GET /schedules/<uuid:schedule_id>/delete
        POST /schedules/<uuid:schedule_id>/delete
        GET /retention/
        POST /retention/cleanup
        GET /settings/
        GET /settings/quotas
        POST /settings/quotas
        POST /settings/quotas/save
        GET /settings/notifications
        POST /settings/notifications
        POST /settings/test
        GET /settings/limits
        POST /settings/limits
        GET /recovery
        POST /recovery
        GET /account/
        POST /account/password
        POST /account/sessions/end
        POST /account/sessions/<uuid:session_id>/end
        GET /activity/
        GET /admins/
        GET /admins/invite
        POST /admins/invite
        GET /admins/invitations/<uuid:invitation_id>
        POST /admins/invitations/<uuid:invitation_id>/withdraw
        GET /admins/<uuid:admin_id>/disable
        POST /admins/<uuid:admin_id>/disable
        GET /admins/<uuid:admin_id>/enable
        POST /admins/<uuid:admin_id>/enable
        GET /admins/<uuid:admin_id>/remove
        POST /admins/<uuid:admin_id>/remove
        GET /tokens/
        GET /tokens/new
        POST /tokens/new
        GET /tokens/<uuid:token_id>
        GET /tokens/<uuid:token_id>/revoke
        POST /tokens/<uuid:token_id>/revoke
    """,
}
ENTERED: dict[Route, str] = {
    (method, rule): who
    for who, lines in TABLE.items()
    for method, _, rule in (line.strip().partition(" ") for line in lines.strip().splitlines())
}
# These end the session that asks: they are tried with one of their own.
LAST = ("/logout",)


def routes(app: APIFlask) -> Iterator[Route]:
    """Yield each of the app's routes with each of its methods."""
    for rule in app.url_map.iter_rules():
        for method in METHODS:
            if method in (rule.methods or ()):
                yield method, rule.rule


def address(rule: str) -> str:
    """Return an address of a route, with ids that do not exist."""
    return re.sub(r"<(?:(\w+):)?(\w+)>", lambda found: str(uuid.uuid4()) if found[1] == "uuid" else "x", rule)


def is_shut_out(answer: TestResponse) -> bool:
    """Return whether a response refuses access or asks to sign in."""
    to_login = answer.status_code in (302, 303) and (answer.location or "").partition("?")[0].endswith("/login")
    return to_login or answer.status_code in (401, 403)


def may(who: str, scope: str) -> bool:
    """Return whether a token's scope is let in at a route."""
    return who == "public" or (who in SCOPES and (who in (scope, "read") or scope == "admin"))


def test_every_route_is_entered_in_the_table_and_nothing_else_is(app: APIFlask) -> None:
    assert set(routes(app)) == set(ENTERED)
    assert len(ENTERED) == sum(len(lines.strip().splitlines()) for lines in TABLE.values()), "a route is entered twice"


def test_nobody_gets_in_but_where_all_do(app: APIFlask) -> None:
    client = app.test_client()
    header = {"X-CSRFToken": csrf_token(client, "/login")}
    for (method, rule), who in ENTERED.items():
        if who != "public":
            answer = client.open(address(rule), method=method, headers=header)
            assert is_shut_out(answer), f"{method} {rule} answered {answer.status_code} to nobody"
        elif rule != "/":
            assert not is_shut_out(client.open(address(rule), method=method, headers=header)), f"{method} {rule} is shut"


@pytest.mark.parametrize("scope", SCOPES)
def test_a_token_gets_in_where_its_scope_does_and_into_no_page(
    app: APIFlask, token: Callable[..., dict[str, str]], scope: str
) -> None:
    client = app.test_client()
    header = token(scope) | {"X-CSRFToken": csrf_token(client, "/login")}
    for (method, rule), who in ENTERED.items():
        if rule == "/":
            continue
        answer = client.open(address(rule), method=method, headers=header)
        assert is_shut_out(answer) is not may(who, scope), f"{method} {rule} answered {answer.status_code} to '{scope}'"
        assert answer.status_code < 500, f"{method} {rule} answered {answer.status_code}"


def test_a_token_that_is_wrong_gets_in_nowhere_even_beside_a_session(app: APIFlask, browser: FlaskClient) -> None:
    header = {"Authorization": "Bearer mvb_wrong"} | csrf_header(browser)
    for (method, rule), who in ENTERED.items():
        if rule.startswith("/api/") and who != "public":
            assert browser.open(address(rule), method=method, headers=header).status_code == 401, f"{method} {rule}"


def test_an_admins_session_gets_in_everywhere(app: APIFlask, browser: FlaskClient) -> None:
    header = csrf_header(browser)
    for method, rule in sorted(ENTERED, key=lambda route: route[1] in LAST):
        answer = browser.open(address(rule), method=method, headers=header)
        assert answer.status_code < 500, f"{method} {rule} answered {answer.status_code}"
        if rule not in LAST:
            assert not is_shut_out(answer), f"{method} {rule} answered {answer.status_code} to an admin"


def test_no_write_of_a_session_is_taken_without_its_csrf_token(app: APIFlask, browser: FlaskClient) -> None:
    for method, rule in ENTERED:
        if method == "GET":
            continue
        for options in ({}, {"json": {}}, {"data": {"a": "b"}}, {"headers": {"X-CSRFToken": "made up"}}):
            answer = browser.open(address(rule), method=method, **options)
            assert answer.status_code == 400, f"{method} {rule} answered {answer.status_code} to {options}"
    assert browser.get("/api/admin/backups").get_json()["total"] == 0


def test_the_token_of_another_session_is_not_taken(app: APIFlask, browser: FlaskClient) -> None:
    header = csrf_header(sign_in(app, EMAIL, PASSWORD))
    for method, rule in ENTERED:
        if method != "GET":
            assert browser.open(address(rule), method=method, headers=header).status_code == 400, f"{method} {rule}"
