"""The outbox: each message is a job of its own, claimed, sent once, and retried while its server is down. A delivery never
changes the outcome of the run that it reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import structlog
from redis.exceptions import RedisError
from sqlalchemy import func, select, update

from app import current
from app.errors import InvalidInput
from app.extensions import db
from app.models import Notification, utcnow
from app.runs import queue
from app.services import delivery, settings_row
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.delivery import Undelivered
from app.services.installation import settings
from app.services.notifications import notices
from app.services.paging import Page

logger = structlog.get_logger(__name__)

FIRST_RETRY = timedelta(minutes=1)
LAST_RETRY = timedelta(hours=1)
GIVE_UP_AFTER = timedelta(days=3)
# A ping means "now", so a late one would mislead.
PING_GIVE_UP_AFTER = timedelta(hours=1)
# A claim older than this belongs to a process that died while sending.
CLAIM_LASTS = timedelta(minutes=5)
AT_ONCE = 200


@dataclass(frozen=True)
class TestResult:
    """The result of a test message to one recipient."""

    medium: str
    target: str
    ok: bool
    detail: str


def list_notifications(page: int = 1, page_size: int = 50) -> Page[Notification]:
    """Return a page of messages, newest first; pages count from 1."""
    total = db.session.scalar(select(func.count()).select_from(Notification)) or 0
    newest = select(Notification).order_by(Notification.created_at.desc(), Notification.id.desc())
    items = list(db.session.scalars(newest.limit(page_size).offset((page - 1) * page_size)))
    return Page(items, page, page_size, total)


def enqueue_due(now: datetime | None = None) -> list[UUID]:
    """Enqueue the messages that are due and return their ids. If the queue is unavailable, the next tick retries."""
    now = now or utcnow()
    lost = (Notification.status == "sending", Notification.claimed_at < now - CLAIM_LASTS)
    db.session.execute(update(Notification).where(*lost).values(status="pending", next_attempt_at=now))
    db.session.commit()
    due = select(Notification.id).where(Notification.status == "pending", Notification.next_attempt_at <= now)
    ids = list(db.session.scalars(due.order_by(Notification.created_at).limit(AT_ONCE)))
    try:
        for notification_id in ids:
            job_id = f"notify-{notification_id}"
            if not queue.knows(queue.TICKS, job_id):
                queue.enqueue(queue.TICKS, queue.NOTIFY_JOB, notification_id, job_id)
    except (queue.QueueUnavailable, RedisError):
        logger.warning("queue unavailable; the next tick retries")
    return ids


def send(notification_id: UUID, now: datetime | None = None) -> bool:
    """Send a message that is due and record the result. Return whether it was delivered; also False if another process has
    claimed it."""
    now = now or utcnow()
    mine = (Notification.id == notification_id, Notification.status == "pending", Notification.next_attempt_at <= now)
    claimed = {"status": "sending", "attempts": Notification.attempts + 1, "claimed_at": now}
    found = db.session.scalar(update(Notification).where(*mine).values(**claimed).returning(Notification.id))
    db.session.commit()
    row = db.session.get(Notification, notification_id, populate_existing=True) if found else None
    if row is None:
        return False
    try:
        _deliver(row.id, row.medium, row.target, row.title, row.text, row.html)
    except Undelivered as error:
        _not_sent(row, error, now)
        return False
    row.status, row.sent_at, row.error = "sent", now, None
    db.session.commit()
    return True


def send_test(actor: Actor) -> list[TestResult]:
    """Send a test message to every recipient and channel at once, and return the results. Raise InvalidInput if there
    are none."""
    found = settings_row.row()
    targets = [("email", address, address) for address in found.recipients]
    targets += [("channel", channel.id, channel.name) for channel in settings.channels()]
    if not targets:
        raise InvalidInput({"recipients": "Save a recipient or a channel first."})
    headline = "This is a test"
    notice = notices.Notice("success", "test", headline, headline, "good", [("Sent by", actor.name)], [], "/")
    message = notices.rendered(notice)
    results = []
    for medium, target, name in targets:
        try:
            _deliver(uuid4(), medium, target, *message)
            results.append(TestResult(medium, name, True, "Sent."))
        except Undelivered as error:
            results.append(TestResult(medium, name, False, current.settings().redact(str(error))))
    audit.record(actor, "notifications.tested", "settings", None, {"failed": sum(not result.ok for result in results)})
    db.session.commit()
    return results


def trouble() -> str | None:
    """Return why the latest undelivered message failed, or None."""
    waits = select(Notification.error).where(
        Notification.status.in_(("pending", "failed")), Notification.error.is_not(None), Notification.medium != "heartbeat"
    )
    recent = waits.where(Notification.created_at > utcnow() - GIVE_UP_AFTER)
    return db.session.scalar(recent.order_by(Notification.created_at.desc()).limit(1))


def _deliver(message_id: UUID, medium: str, target: str, title: str, text: str, html: str | None) -> None:  # noqa: PLR0913, PLR0917 - a mail
    if medium == "email":
        delivery.email(current.settings(), str(message_id), target, title, text, html)
    elif medium == "channel":
        channel = next((channel for channel in settings.channels() if channel.id == target), None)
        if channel is None:
            raise Undelivered("This channel was removed.", final=True)
        delivery.channel(channel.url, title, text)
    else:
        url = settings.heartbeat_url(target)
        if url is None:
            raise Undelivered("This heartbeat URL was removed.", final=True)
        delivery.ping(url)


def _not_sent(row: Notification, error: Undelivered, now: datetime) -> None:
    row.error = current.settings().redact(str(error))
    patience = PING_GIVE_UP_AFTER if row.medium == "heartbeat" else GIVE_UP_AFTER
    if error.final or now - row.created_at > patience:
        row.status = "failed"
    else:
        row.status = "pending"
        row.next_attempt_at = now + min(FIRST_RETRY * 2 ** min(row.attempts - 1, 10), LAST_RETRY)
    logger.warning("message not delivered", notification=str(row.id), medium=row.medium, reason=row.error)
    if error.server and row.medium == "email":
        # The others would each wait for the same dead server.
        others = (Notification.status == "pending", Notification.medium == "email", Notification.next_attempt_at <= now)
        db.session.execute(update(Notification).where(*others).values(next_attempt_at=now + FIRST_RETRY))
    db.session.commit()
