"""Send one message."""

from __future__ import annotations

from uuid import UUID

from app.jobs.log_ids import in_logs
from app.services.notifications import notifications


@in_logs("notification_id")
def run(notification_id: str) -> None:
    """Given a message's id, send it if it is due and nobody else has. A failure is written to its row, and tried again."""
    notifications.send(UUID(notification_id))
