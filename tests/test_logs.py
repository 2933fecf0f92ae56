"""The logs: one line each, with the ids of requests and runs, and without secrets."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import structlog
from apiflask import APIFlask

from app import logs
from app.config import Settings
from app.jobs import backup, tick
from app.services.backups import backups
from tests.support.application import TESTER


class Lines:
    """What was logged."""

    def __init__(self, settings: Settings) -> None:
        self._stream = io.StringIO()
        logs.configure(settings)
        self._handler = logging.getLogger().handlers[-1]
        assert isinstance(self._handler, logging.StreamHandler)
        self._handler.setStream(self._stream)

    def text(self) -> str:
        return self._stream.getvalue()

    def parsed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def lines(settings: Settings) -> Iterator[Callable[[str], Lines]]:
    """A function that sends the logs in the given format to where the test can read them."""
    yield lambda log_format: Lines(replace(settings, log_format=log_format))
    logs.configure(settings)


def test_json_is_one_object_a_line_also_of_libraries_and_errors(lines: Callable[[str], Lines]) -> None:
    written = lines("json")
    structlog.get_logger("ours").info("a line\nand more", number=3, text="ä")
    logging.getLogger("rq.worker").warning("from a library")
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger("ours").exception("it failed")
    first, second, third = written.parsed()
    assert (first["event"], first["number"], first["level"]) == ("a line\nand more", 3, "info")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", first["timestamp"])
    assert (second["event"], second["logger"], second["level"]) == ("from a library", "rq.worker", "warning")
    assert "ValueError: broken" in third["exception"]


def test_console_lines_are_for_people(lines: Callable[[str], Lines]) -> None:
    written = lines("console")
    structlog.get_logger("ours").info("a line", number=3)
    assert re.fullmatch(r'timestamp=\S+ level=info event="a line" number=3 logger=ours\n', written.text())


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_gets_into_a_line_whatever_way_it_takes(
    lines: Callable[[str], Lines], settings: Settings, log_format: str
) -> None:
    written = lines(log_format)
    logger = structlog.get_logger("ours")
    logger.info("connecting", url=settings.source_url, key=settings.secret_key)
    logger.info("given", password="hidden-1", api_token="hidden-2", Authorization="Bearer hidden-3-hidden-3")
    logging.getLogger("library").error("GET discord://id:hidden-4@host/x Authorization: Bearer hidden-5-hidden-5")
    logging.getLogger("library").error("host=db password=hidden-6 dbname=app")
    for secret in settings.secrets():
        assert secret not in written.text()
    assert not re.search(r"hidden-\d", written.text())
    assert "***" in written.text()
    assert "dbname=app" in written.text()


def test_a_request_has_an_id_in_its_lines_and_its_answer(app: APIFlask, lines: Callable[[str], Lines]) -> None:
    written = lines("json")
    answer = app.test_client().get("/login?next=/secret-place")
    (line,) = [each for each in written.parsed() if each["event"] == "request"]
    assert answer.headers["X-Request-Id"] == line["request_id"]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/login", 200)
    assert "secret-place" not in written.text()
    assert line["milliseconds"] >= 0


def test_a_proxys_id_is_taken_over_unless_it_is_odd(app: APIFlask) -> None:
    client = app.test_client()
    assert client.get("/login", headers={"X-Request-Id": "abc-123-def"}).headers["X-Request-Id"] == "abc-123-def"
    for odd in ("short", "with space and more", "x" * 200):
        assert client.get("/login", headers={"X-Request-Id": odd}).headers["X-Request-Id"] != odd


def test_monitors_leave_no_lines_and_nothing_of_a_request_stays(app: APIFlask, lines: Callable[[str], Lines]) -> None:
    written = lines("json")
    client = app.test_client()
    client.get("/healthz")
    assert not [line for line in written.parsed() if line["event"] == "request"]
    client.get("/login")
    structlog.get_logger("ours").info("afterwards")
    assert "request_id" not in written.parsed()[-1]


def test_every_line_of_a_run_has_the_backups_id(
    app: APIFlask, lines: Callable[[str], Lines], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = backups.start(TESTER)
    written = lines("json")
    settle = backup.restore_recovery.settle_before_reading

    def talk() -> None:
        logging.getLogger("library").warning("from deep inside")
        settle()

    monkeypatch.setattr(backup.restore_recovery, "settle_before_reading", talk)
    backup.run(str(row.id))
    ids = {line["event"]: line.get("backup_id") for line in written.parsed()}
    assert {"from deep inside", "backup begins", "backup completed"} <= set(ids)
    assert set(ids.values()) == {str(row.id)}
    structlog.get_logger("ours").info("afterwards")
    assert "backup_id" not in written.parsed()[-1]


def test_a_tick_that_fails_says_which(app: APIFlask, lines: Callable[[str], Lines], monkeypatch: pytest.MonkeyPatch) -> None:
    written = lines("json")

    def broken() -> None:
        raise RuntimeError("no good")

    monkeypatch.setitem(tick.STEPS, "check", (broken,))  # type: ignore[arg-type]
    with pytest.raises(tick.TickFailed):
        tick.run("check")
    (line,) = [each for each in written.parsed() if each["level"] == "error"]
    assert line["tick"] == "check"


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_nothing_in_a_line_is_obeyed_by_a_terminal(lines: Callable[[str], Lines], log_format: str) -> None:
    written = lines(log_format)
    structlog.get_logger("ours").info("path \x1b]0;owned\x07 \x9b2J", path="/\x1b[31mred\r\n\u2028\u202eforged")
    logging.getLogger("a.library").warning("it says \x1b[2J")
    text = written.text()
    assert len(text.splitlines()) == 2
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "\\u001b]0;owned" in text
