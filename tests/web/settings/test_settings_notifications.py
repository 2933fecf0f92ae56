"""Settings: notifications, a test of them, and limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from app.models import BackupHistory
from app.services import settings_row
from app.services.inputs import SettingsInput
from app.services.installation import settings
from tests.support.application import PASSWORD, TESTER
from tests.support.browser import Browser, Page
from tests.support.mail import MailServer

Make = Callable[..., BackupHistory]
PATH = "/settings/notifications"
SECRET = "ntfys://person:hunter2@ntfy.example.com/topic"


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    """A mail server that runs."""
    server = MailServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def environment(environment: dict[str, str], mail_server: MailServer) -> dict[str, str]:
    """The settings with a mail server."""
    return environment | {"SMTP_URL": mail_server.url, "MAIL_FROM": "backup@example.com"}


def stored(**values: object) -> settings.SettingsView:
    """Store settings and return all of them."""
    return settings.update(TESTER, SettingsInput.model_validate(values))


def test_switches_recipients_and_heartbeats_are_saved_with_the_password(admin: Browser) -> None:
    typed = {"recipients": "one@example.com\r\n\r\ntwo@example.com", "heartbeat_url": "https://hc.example.com/ping/abc"}
    admin.submit(PATH, PATH, notify_success="y", notify_failure=None, password=PASSWORD, **typed)
    view = settings.view()
    assert view.recipients == ["one@example.com", "two@example.com"]
    assert (view.notify_success, view.notify_failure, view.notify_overdue) == (True, False, True)
    assert settings.heartbeat_url("success") == "https://hc.example.com/ping/abc"
    shown = admin.get(PATH).form(PATH)
    assert shown["heartbeat_url"] == "https://hc.example.com/***"


def test_without_the_password_nothing_is_saved_and_what_was_typed_stays(admin: Browser) -> None:
    page = Page(admin.submit(PATH, PATH, 422, recipients="one@example.com", password="wrong"))
    assert "wrong" in page.by_id("password-error")
    assert page.form(PATH)["recipients"] == "one@example.com"
    assert settings.view().recipients == []


def test_a_channel_is_added_masked_kept_renamed_and_removed(admin: Browser) -> None:
    new = {"channels-0-name": "Phone", "channels-0-url": SECRET}
    admin.submit(PATH, PATH, password=PASSWORD, **new)
    page = admin.get(PATH)
    assert "hunter2" not in page.html
    assert page.form(PATH)["channels-0-url"] == "ntfys://***"
    admin.submit(page, PATH, password=PASSWORD, **{"channels-0-name": "My phone"})
    assert [(channel.name, channel.url) for channel in settings.channels()] == [("My phone", SECRET)]
    admin.submit(PATH, PATH, password=PASSWORD, **{"channels-0-remove": "y"})
    assert settings.channels() == []


def test_bad_addresses_and_urls_are_refused_at_their_fields(admin: Browser) -> None:
    typed = {"recipients": "good@example.com\nno address", "heartbeat_url": "ftp://example.com"}
    page = Page(admin.submit(PATH, PATH, 422, password=PASSWORD, **typed))
    assert page.by_id("recipients-error").startswith("no address: This is not an email address")
    typed = {"heartbeat_url": "ftp://example.com", "channels-0-name": "Phone", "channels-0-url": "nonsense"}
    page = Page(admin.submit(PATH, PATH, 422, password=PASSWORD, **typed))
    assert "http://" in page.by_id("heartbeat_url-error")
    assert "Apprise does not understand" in page.by_id("channels-0-url-error")
    assert "Channel Phone:" in page.by_id("error-summary")
    assert page.form(PATH)["channels-0-name"] == "Phone"
    assert settings.channels() == []


def test_a_test_is_sent_to_everybody_and_says_how_each_went(admin: Browser, mail_server: MailServer) -> None:
    stored(recipients=["one@example.com", "nobody@example.com"])
    words = Page(admin.submit(PATH, "/settings/test", 200)).by_id("test-results")
    assert "Sent one@example.com" in words
    assert "Not sent nobody@example.com: The mail server refused nobody@example.com" in words
    assert [message["To"] for message in mail_server.messages] == ["one@example.com"]


def test_a_test_without_anybody_to_send_it_to_says_what_to_do(admin: Browser) -> None:
    page = Page(admin.submit(PATH, "/settings/test", 422))
    assert "Save a recipient or a channel first" in page.by_id("recipients-error")


def test_limits_are_saved_and_those_left_alone_stay_exact(admin: Browser) -> None:
    page = admin.get("/settings/limits")
    shown = page.form("/settings/limits")
    assert (shown["undo_hours"], shown["stall_minutes"], shown["disk_reserve_bytes"]) == ("24", "10", "268")
    admin.submit(page, "/settings/limits", stall_minutes="20", password=PASSWORD)
    view = settings.view()
    assert (view.stall_minutes, view.disk_reserve_bytes) == (20, 268_435_456)
    assert settings_row.row().undo_hours is None
    admin.submit("/settings/limits", "/settings/limits", disk_reserve_bytes="1500", undo_hours="48", password=PASSWORD)
    assert (settings.view().disk_reserve_bytes, settings.undo_hours()) == (1_500_000_000, 48)


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("undo_hours", "0", "greater than or equal to 1"),
        ("stall_minutes", "", "Give a number"),
        ("disk_reserve_bytes", "lots", "number of megabytes"),
        ("disk_reserve_bytes", "nan", "number of megabytes"),
        ("disk_reserve_bytes", "-1", "number of megabytes"),
        ("password", "wrong", "wrong"),
    ],
)
def test_a_bad_limit_is_refused_at_its_field(admin: Browser, field: str, typed: str, words: str) -> None:
    given = {"password": PASSWORD, "stall_minutes": "30"} | {field: typed}
    page = Page(admin.submit("/settings/limits", "/settings/limits", 422, **given))
    assert words in page.by_id(f"{field}-error")
    assert settings.view().stall_minutes == 10


class TestWithoutAMailServer:
    """Where SMTP_URL is not set."""

    @pytest.fixture
    def environment(self, environment: dict[str, str]) -> dict[str, str]:
        """The settings without a mail server."""
        return {name: value for name, value in environment.items() if name not in ("SMTP_URL", "MAIL_FROM")}

    def test_the_page_says_that_no_mail_can_be_sent(self, admin: Browser) -> None:
        assert "SMTP_URL is not set" in admin.get(PATH).text
        stored(recipients=["one@example.com"])
        words = Page(admin.submit(PATH, "/settings/test", 200)).by_id("test-results")
        assert "SMTP_URL is not set" in words
