"""The filters of the list of backups, as its URL has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from app.web.filters import KINDS, STATUSES

LONGEST_TEXT = 200


@dataclass(frozen=True)
class BackupFilters:
    """Filters; None: not filtered by that. `since` and `until` are days in UTC, both inclusive."""

    status: str | None = None
    kind: str | None = None
    schedule_id: UUID | None = None
    text: str | None = None
    since: date | None = None
    until: date | None = None

    @property
    def query(self) -> dict[str, str]:
        """The query parameters for the same filters."""
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
        """Whether a filter in the folded section is set."""
        return any((self.schedule_id, self.since, self.until))


def read(query: Mapping[str, str]) -> BackupFilters:
    """Parse the filters of a query; invalid ones are ignored."""
    return BackupFilters(
        status=query.get("status") if query.get("status") in STATUSES else None,
        kind=query.get("kind") if query.get("kind") in KINDS else None,
        schedule_id=_uuid(query.get("schedule", "")),
        text=plain(query.get("text", "")),
        since=_date(query.get("since", "")),
        until=_date(query.get("until", "")),
    )


def plain(text: str) -> str | None:
    """Strip a search text of unprintable characters and surrounding space; None if nothing is left."""
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
