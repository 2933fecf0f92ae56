"""Send one message."""

from __future__ import annotations

from uuid import UUID

from app.jobs.log_ids import in_logs
from app.services.notifications import outbox


@in_logs("notification_id")
def run(notification_id: str) -> None:
    """Send a message if it is due and not claimed. A failure is recorded in its row, and retried."""
    outbox.send(UUID(notification_id))
