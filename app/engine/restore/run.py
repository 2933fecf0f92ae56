"""One restore under way: what it works on, its journal, and its warnings so far."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..progress import Meter
from .places import journal as journals
from .places.journal import Journal
from .preview.findings import Findings
from .request import Origin, RestoreRequest


@dataclass
class RestoreRun:
    """What one restore works on. Only `journal` and `warnings` change; what a step makes, it returns."""

    request: RestoreRequest
    origin: Origin
    findings: Findings
    meter: Meter
    journal: Journal
    warnings: list[str] = field(default_factory=list)

    def note(self, **changes: Any) -> None:
        """Make changes to the journal durable."""
        self.journal = journals.write(self.request.state_dir, self.journal, **changes)

    @property
    def url(self) -> str:
        return self.request.target.database_url

    @property
    def application(self) -> str:
        """The application_name of this restore's sessions, by which they are found after a crash."""
        return f"restore {self.request.restore_id}"
