"""What the list of backups is narrowed down to, as its address says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from app.web.filters import KINDS, STATUSES

LONGEST_TEXT = 200


@dataclass(frozen=True)
class BackupFilters:
    """None: not narrowed down by that. `since` and `until` are days in UTC, both included."""

    status: str | None = None
    kind: str | None = None
    schedule_id: UUID | None = None
    text: str | None = None
    since: date | None = None
    until: date | None = None

    @property
    def query(self) -> dict[str, str]:
        """What an address needs to say the same."""
        chosen = {
            "status": self.status,
            "kind": self.kind,
            "schedule": self.schedule_id,
            "text": self.text,
            "since": self.since,
            "until": self.until,
        }
        return {name: str(value) for name, value in chosen.items() if value is not None}

    @property
    def folded(self) -> bool:
        """Whether those that are folded away narrow it down."""
        return any((self.schedule_id, self.since, self.until))


def read(query: Mapping[str, str]) -> BackupFilters:
    """Given a query, return what it asks for; what makes no sense is left out."""
    return BackupFilters(
        status=query.get("status") if query.get("status") in STATUSES else None,
        kind=query.get("kind") if query.get("kind") in KINDS else None,
        schedule_id=_uuid(query.get("schedule", "")),
        text=plain(query.get("text", "")),
        since=_date(query.get("since", "")),
        until=_date(query.get("until", "")),
    )


def plain(text: str) -> str | None:
    """Given what somebody typed to search for, return it fit for a page and a database, None if nothing is left."""
    return "".join(char for char in text if char.isprintable()).strip()[:LONGEST_TEXT] or None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
