"""Mail by a real SMTP server that goes away and comes back, channels by Apprise, pings: each once, and no secret in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from apiflask import APIFlask
from sqlalchemy import func, select

from app.errors import InvalidInput
from app.extensions import db
from app.jobs import aftermath
from app.models import BackupHistory, Notification, Restore, utcnow
from app.services import settings_row
from app.services.backups import backups
from app.services.history import retention_plan
from app.services.inputs import ChannelInput, SettingsInput, checked
from app.services.installation import settings
from app.services.notifications import notices, outbox
from app.services.retention import cleanup
from tests.support.application import TESTER, Processes, finished, wait_for
from tests.support.databases import SourceDatabase
from tests.support.mail import MailServer, web_server
from tests.support.scheduling import schedule, tick

MakeRow = Callable[..., BackupHistory]
TO = "operator@example.com"
NOW = datetime(2026, 5, 20, 3, 0, tzinfo=UTC)


@pytest.fixture
def mail() -> Iterator[MailServer]:
    """A mail server that listens."""
    server = MailServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def environment(environment: dict[str, str], mail: MailServer) -> dict[str, str]:
    """The settings, with that mail server."""
    return {**environment, "SMTP_URL": mail.url, "MAIL_FROM": "backup@example.com", "PUBLIC_URL": "http://backup.test/"}


def change(**values: object) -> None:
    """Change the settings."""
    settings.update(TESTER, checked(SettingsInput, values))


def all_messages() -> list[Notification]:
    """Return every message as the database has it."""
    db.session.rollback()
    chosen = select(Notification).order_by(Notification.medium, Notification.target, Notification.created_at)
    return list(db.session.scalars(chosen.execution_options(populate_existing=True)))


def send_due(now: datetime | None = None) -> None:
    """Put what is due into the queue, and do what a worker would."""
    for notification_id in outbox.enqueue_due(now):
        outbox.send(notification_id, now)


def failed_row(make_row: MakeRow, **columns: object) -> BackupHistory:
    """Return a backup that has just failed."""
    return make_row("failed", finished_at=utcnow(), started_at=utcnow(), **columns)


def test_a_failure_is_told_by_mail_once_in_text_and_html(app: APIFlask, mail: MailServer, make_row: MakeRow) -> None:
    change(recipients=[TO])
    row = failed_row(make_row, error="pg_dump lost its <connection>.")
    for _ in range(3):
        notices.announce()
        send_due()
    (message,) = mail.messages
    assert message["Subject"] == "[motovaultpro backup] Backup failed: manual"
    assert (message["To"], message["From"]) == (TO, "backup@example.com")
    text, html = (part.get_payload(decode=True).decode() for part in message.get_payload())
    assert [part.get_content_type() for part in message.get_payload()] == ["text/plain", "text/html"]
    assert "pg_dump lost its <connection>." in text
    assert "pg_dump lost its &lt;connection&gt;." in html
    assert f"http://backup.test/backups/{row.id}" in text
    assert "None" not in text + html


def test_a_mail_server_that_is_down_changes_no_outcome_and_the_mail_arrives_once_later(
    app: APIFlask, mail: MailServer, processes: Processes
) -> None:
    change(recipients=[TO, "second@example.com"], notify_success=True)
    mail.stop()
    processes.start("worker", "--queue", "ticks", "--queue", "backups")
    row = finished(backups.start(TESTER))
    assert (row.status, row.error) == ("completed", None)
    wait_for(lambda: any(entry.attempts for entry in all_messages()))
    wait_for(lambda: all(entry.status == "pending" for entry in all_messages()))
    assert len(all_messages()) == 2
    assert "can't be reached" in str(max(str(entry.error) for entry in all_messages() if entry.error))
    mail.start()
    for hours in range(1, 4):
        outbox.enqueue_due(utcnow() + timedelta(hours=hours))
        send_due(utcnow() + timedelta(hours=hours))
    wait_for(lambda: all(entry.status == "sent" for entry in all_messages()))
    assert sorted(message["To"] for message in mail.messages) == [TO, "second@example.com"]
    assert backups.get(row.id).status == "completed"


def test_retries_come_further_and_further_apart_and_end_after_three_days(
    app: APIFlask, mail: MailServer, make_row: MakeRow
) -> None:
    change(recipients=[TO])
    mail.stop()
    failed_row(make_row)
    notices.announce()
    (entry,) = all_messages()
    now, gaps = entry.created_at + timedelta(seconds=1), []
    while entry.status == "pending" and len(gaps) < 200:
        outbox.send(entry.id, now)
        (entry,) = all_messages()
        gaps.append((entry.next_attempt_at - now).total_seconds() / 60)
        now = max(entry.next_attempt_at, now)
        if entry.status == "failed":
            break
    assert gaps[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert entry.status == "failed"
    assert timedelta(days=3) < now - entry.created_at < timedelta(days=3, hours=2)


def test_a_refused_recipient_is_not_tried_again_and_costs_no_other_their_mail(
    app: APIFlask, mail: MailServer, make_row: MakeRow
) -> None:
    change(recipients=["nobody@example.com", TO])
    failed_row(make_row)
    notices.announce()
    send_due()
    assert [(entry.target, entry.status) for entry in all_messages()] == [("nobody@example.com", "failed"), (TO, "sent")]
    assert "No such user" in str(all_messages()[0].error)
    assert "No such user" in str(outbox.trouble())


def test_of_many_workers_one_sends_it(app: APIFlask, mail: MailServer, make_row: MakeRow) -> None:
    from concurrent.futures import ThreadPoolExecutor

    change(recipients=[TO])
    failed_row(make_row)
    notices.announce()
    entry_id = all_messages()[0].id

    def send(_: int) -> bool:
        with app.app_context():
            return outbox.send(entry_id)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(send, range(16))) == 1
    assert len(mail.messages) == 1


def test_a_message_whose_worker_died_is_sent_by_another(app: APIFlask, mail: MailServer, make_row: MakeRow) -> None:
    change(recipients=[TO])
    failed_row(make_row)
    notices.announce()
    (entry,) = all_messages()
    entry.status, entry.claimed_at = "sending", utcnow() - timedelta(minutes=6)
    db.session.commit()
    send_due()
    assert len(mail.messages) == 1


@pytest.mark.parametrize(
    ("switch", "columns", "told"),
    [
        ("notify_success", {}, "Backup completed"),
        ("notify_warnings", {"warnings": ["a.pdf changed while it was read"]}, "completed with 1 warnings"),
        ("notify_failure", {"status": "failed"}, "Backup failed"),
    ],
)
def test_each_event_has_its_switch(
    app: APIFlask, make_row: MakeRow, switch: str, columns: dict[str, object], told: str
) -> None:
    everything = ("notify_success", "notify_warnings", "notify_failure")
    change(recipients=[TO], **dict.fromkeys(everything, False))
    make_row(finished_at=utcnow(), **columns)
    notices.announce()
    assert all_messages() == []
    change(**{switch: True})
    make_row(finished_at=utcnow(), **columns)
    notices.announce()
    assert [told in entry.title for entry in all_messages()] == [True]


def test_a_slot_that_is_tried_again_is_told_only_when_it_has_failed(app: APIFlask) -> None:
    change(recipients=[TO])
    begin = utcnow().replace(second=0, microsecond=0)
    schedule("custom", begin - timedelta(minutes=1), cron_expression=f"{begin.minute} {begin.hour} * * *", name="nightly")
    for minutes in (0, 1, 6):
        assert tick(begin + timedelta(minutes=minutes), "failed")
        notices.announce(begin + timedelta(minutes=minutes))
        assert all_messages() == []
    tick(begin + timedelta(minutes=21), "failed")
    notices.announce(begin + timedelta(minutes=21))
    (entry,) = all_messages()
    assert entry.title.endswith("Backup failed: nightly")
    assert "Attempts: 4" in entry.text


def test_overdue_restores_and_cleanup_trouble_are_told_once_each(app: APIFlask, make_row: MakeRow) -> None:
    change(recipients=[TO])
    schedule("daily", NOW - timedelta(hours=1), name="nightly")
    db.session.add(
        Restore(backup_id=None, scope="all", status="failed", error="No room.", finished_at=utcnow(), requested_by="me")
    )
    db.session.commit()
    for _ in range(2):
        notices.announce(NOW + timedelta(hours=2))
        cleanup.notices.cleanup_trouble(["a.tar.gz: not permitted"], NOW)
    events = {entry.event: entry for entry in all_messages()}
    assert len(all_messages()) == 3
    assert set(events) == {"overdue", "restore", "cleanup"}
    assert "nightly" in events["overdue"].title
    assert "No room." in events["restore"].text
    assert "not permitted" in events["cleanup"].text


def test_what_was_found_again_or_ended_long_ago_is_no_news(app: APIFlask, make_row: MakeRow) -> None:
    change(recipients=[TO], notify_success=True)
    make_row(finished_at=utcnow() - timedelta(days=3))
    make_row(finished_at=utcnow(), kind="uploaded")
    make_row(finished_at=utcnow(), kind="safety")
    notices.announce()
    assert all_messages() == []
    assert db.session.scalar(select(func.count()).where(BackupHistory.notified_at.is_(None))) == 0


def test_channels_and_pings_arrive_and_their_urls_are_sealed(app: APIFlask, make_row: MakeRow) -> None:
    with web_server() as (address, asked):
        change(
            channels=[{"name": "ops", "url": f"json://{address}/very-secret-token"}],
            heartbeat_url=f"http://{address}/ping/very-secret-token",
            heartbeat_failure_url=f"http://{address}/fail/very-secret-token",
        )
        failed_row(make_row)
        make_row(finished_at=utcnow())
        notices.announce()
        send_due()
        assert sorted(path for path, _ in asked) == [
            "/fail/very-secret-token", "/ping/very-secret-token", "/very-secret-token",
        ]  # fmt: skip
    stored = settings_row.row()
    assert "very-secret" not in f"{stored.channels_sealed}{stored.heartbeat_sealed}{stored.heartbeat_failure_sealed}"
    assert "very-secret" not in repr(settings.view()) + repr(settings.channels())
    assert all("very-secret" not in f"{entry.text}{entry.error}{entry.target}" for entry in all_messages())


def test_a_ping_that_fails_is_tried_for_an_hour_only_and_its_error_names_no_url(app: APIFlask, make_row: MakeRow) -> None:
    with web_server(status=500) as (address, _):
        change(heartbeat_url=f"http://{address}/very-secret-token")
        make_row(finished_at=utcnow())
        notices.announce()
        send_due()
        (entry,) = all_messages()
        assert (entry.status, entry.error) == ("pending", "The heartbeat URL answered 500.")
        send_due(utcnow() + timedelta(hours=2))
    assert all_messages()[0].status == "failed"


def test_no_secret_gets_into_a_message(app: APIFlask, make_row: MakeRow, source_db: SourceDatabase) -> None:
    change(recipients=[TO])
    failed_row(make_row, error=f"could not connect with {source_db.password} and a secret key for the tests")
    notices.announce()
    (entry,) = all_messages()
    assert source_db.password not in entry.text + str(entry.html)
    assert "a secret key for the tests" not in entry.text + str(entry.html)
    assert "***" in entry.text


def test_a_test_message_goes_out_at_once_and_says_how_it_went(app: APIFlask, mail: MailServer) -> None:
    with pytest.raises(InvalidInput):
        outbox.send_test(TESTER)
    change(recipients=[TO, "nobody@example.com"])
    results = outbox.send_test(TESTER)
    assert [(result.target, result.ok) for result in results] == [(TO, True), ("nobody@example.com", False)]
    assert "This is a test" in mail.messages[0]["Subject"]


def test_a_changed_secret_key_loses_the_channels_and_nothing_else(app: APIFlask) -> None:
    change(channels=[{"name": "ops", "url": "json://127.0.0.1/token"}], recipients=[TO])
    app.config["SETTINGS"] = replace(app.config["SETTINGS"], secret_key="another secret key for the tests")
    assert (settings.channels(), settings.view().recipients) == ([], [TO])
    settings.update(TESTER, SettingsInput(channels=[ChannelInput(name="new", url="json://127.0.0.1/token")]))
    assert [channel.name for channel in settings.channels()] == ["new"]


def test_what_goes_wrong_afterwards_never_changes_a_backup(
    app: APIFlask, make_row: MakeRow, monkeypatch: pytest.MonkeyPatch
) -> None:
    row_id = make_row(kind="scheduled", finished_at=utcnow()).id

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    for module, name in ((notices, "announce"), (cleanup, "cleanup"), (retention_plan, "refresh")):
        monkeypatch.setattr(module, name, broken)
    aftermath.of_backup(row_id)
    assert backups.get(row_id).status == "completed"
