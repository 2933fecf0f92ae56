"""How much one caller may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from apiflask import APIFlask
from flask.testing import FlaskClient

from app import create_app
from app.config import ConfigError, Settings, read_settings
from app.extensions import db
from app.http import limits
from app.services.people import admins, tokens
from tests.support.api_session import csrf_header, sign_in
from tests.support.application import EMAIL, PASSWORD, TESTER, Client

URL = "/api/admin/backups"
# 600, 30, 20, 6 and 30 a minute become 12, 1, 1, 1 and 1.
FACTOR = 0.02
DEAD_REDIS = "redis://127.0.0.1:1/0"


def build(settings: Settings, factor: float, redis_url: str | None = None) -> APIFlask:
    """Return an app with that rate-limit factor, as another container would run it."""
    app = create_app(replace(settings, rate_limit_factor=factor, redis_url=redis_url or settings.redis_url))
    app.test_client_class = Client
    return app


@pytest.fixture
def app(settings: Settings) -> Iterator[APIFlask]:
    """The app with small limits and migrated tables, inside its context."""
    made = build(settings, FACTOR)
    with made.app_context():
        yield made
        db.session.remove()
        db.engine.dispose()


def header(*scopes: str) -> dict[str, str]:
    """Return the header of a new token with these scopes."""
    return {"Authorization": f"Bearer {tokens.create(TESTER, 'test', scopes)[1]}"}


def statuses(client: FlaskClient, times: int, sent: dict[str, str] | None = None, path: str = URL) -> list[int]:
    """Send that many requests and return the statuses."""
    return [client.get(path, headers=sent).status_code for _ in range(times)]


def test_after_the_limit_a_problem_says_when_to_come_back(app: APIFlask) -> None:
    client, sent = app.test_client(), header("read")
    assert statuses(client, 12, sent) == [200] * 12
    refused = client.get(URL, headers=sent)
    assert (refused.status_code, refused.mimetype) == (429, "application/problem+json")
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    assert refused.get_json()["retry_after"] == int(refused.headers["Retry-After"])
    assert "12 a minute" in refused.get_json()["detail"]


def test_each_token_counts_for_itself_and_so_does_an_address_without_one(app: APIFlask) -> None:
    client = app.test_client()
    assert statuses(client, 13, header("read"))[-1] == 429
    assert statuses(client, 1, header("read")) == [200]
    assert statuses(client, 13) == [401] * 12 + [429]


def test_made_up_tokens_are_counted_by_address(app: APIFlask) -> None:
    client = app.test_client()
    found = [client.get(URL, headers={"Authorization": f"Bearer mvb_{n}"}).status_code for n in range(13)]
    assert found == [401] * 12 + [429]


def test_all_containers_count_together(app: APIFlask, settings: Settings) -> None:
    sent = header("read")
    other = build(settings, FACTOR)
    assert statuses(app.test_client(), 8, sent) == [200] * 8
    assert statuses(other.test_client(), 5, sent) == [200] * 4 + [429]


def test_starting_backups_is_limited_more_than_looking_at_them(app: APIFlask) -> None:
    client, sent = app.test_client(), header("backup")
    assert client.post(URL, headers=sent).status_code == 202
    assert client.post(URL, headers=sent).status_code == 429
    assert client.get(URL, headers=sent).status_code == 200


def test_the_login_page_is_limited_by_address_with_a_page(app: APIFlask) -> None:
    app.config["WTF_CSRF_ENABLED"] = False
    client = app.test_client()
    form = {"email": EMAIL, "password": "wrong"}
    assert client.post("/login", data=form).status_code == 401
    refused = client.post("/login", data=form, headers={"Accept": "text/html"})
    assert (refused.status_code, refused.mimetype) == (429, "text/html")
    assert int(refused.headers["Retry-After"]) >= 1
    assert client.get("/login").status_code == 200
    assert client.post("/login", data=form, environ_base={"REMOTE_ADDR": "192.0.2.7"}).status_code == 401


def test_a_page_and_the_api_count_an_admins_starts_together(app: APIFlask) -> None:
    admins.create(TESTER, EMAIL, PASSWORD)
    client = sign_in(app, EMAIL, PASSWORD)
    header = csrf_header(client)
    assert client.post(URL, headers=header).status_code == 202
    assert client.post("/backups/", headers=header).status_code == 429


def test_health_and_metrics_are_never_limited(app: APIFlask) -> None:
    client = app.test_client()
    assert statuses(client, 20, path="/healthz") == [200] * 20
    assert statuses(client, 20, header("read"), path="/metrics") == [200] * 20


def test_without_redis_each_process_counts_for_itself(app: APIFlask, settings: Settings) -> None:
    alone = build(settings, FACTOR, DEAD_REDIS).test_client()
    assert statuses(alone, 13, header("read")) == [200] * 12 + [429]


def test_a_redis_that_goes_and_comes_back_costs_no_request(app: APIFlask, settings: Settings) -> None:
    client, sent = app.test_client(), header("read")
    assert statuses(client, 2, sent) == [200] * 2
    pool = app.extensions["redis"].connection_pool
    there = dict(pool.connection_kwargs)
    pool.disconnect()
    pool.connection_kwargs["port"] = 1
    assert statuses(client, 2, sent) == [200] * 2
    pool.disconnect()
    pool.connection_kwargs.update(there)
    assert statuses(client, 2, sent) == [200] * 2


def test_a_factor_of_zero_takes_the_limits_away(app: APIFlask, settings: Settings) -> None:
    free = build(settings, 0).test_client()
    assert statuses(free, 30, header("read")) == [200] * 30


def test_the_limits_name_views_that_are_there(app: APIFlask) -> None:
    assert set(limits.STRICTER) <= set(app.view_functions)


def test_the_setting_is_a_number(environment: dict[str, str]) -> None:
    assert read_settings(environment | {"RATE_LIMIT_FACTOR": "2.5"}).rate_limit_factor == 2.5
    for wrong in ("-1", "much", "1e9", "nan"):
        with pytest.raises(ConfigError, match="RATE_LIMIT_FACTOR"):
            read_settings(environment | {"RATE_LIMIT_FACTOR": wrong})


def test_the_defaults_leave_room_for_people(environment: dict[str, str]) -> None:
    assert (
        read_settings({name: environment[name] for name in environment if name != "RATE_LIMIT_FACTOR"}).rate_limit_factor
        == 1
    )
    assert min(bucket.per_minute for bucket in limits.STRICTER.values()) >= 6
    assert limits.API.per_minute >= 600
