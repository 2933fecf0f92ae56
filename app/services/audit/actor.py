"""Who acts, for the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Actor:
    """`kind` says how they came in, `id` is the admin's or token's UUID as text, `address` the client's IP, `session_id` an
    admin's session."""

    kind: Literal["admin", "token", "system", "cli"]
    id: str | None
    name: str
    address: str | None = None
    session_id: str | None = None

    @classmethod
    def system(cls, name: str) -> Actor:
        """Return one of our own jobs as an actor."""
        return cls("system", None, name)
