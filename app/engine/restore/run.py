"""What one restore has found out and made so far: passed from step to step instead of a dozen arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..progress import Meter
from .places import journal as journals
from .places.journal import Journal
from .places.staging_database import Sandbox
from .places.staging_folder import StagingFolder
from .preview.preview import Previewer
from .request import Origin, RestoreRequest


@dataclass
class RestoreRun:
    """What one restore has found out and made so far."""

    request: RestoreRequest
    origin: Origin
    meter: Meter
    threads: int
    journal: Journal
    previewer: Previewer
    tables_before: dict[tuple[str, str], int | None] = field(default_factory=dict)
    rows: dict[tuple[str, str], int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    documents_before: int = 0
    documents_after: int = 0
    code: list[str] = field(default_factory=list)
    encoding: str = ""
    sandbox: Sandbox | None = None
    folder: StagingFolder | None = None

    def note(self, **changes: Any) -> None:
        """Make changes to the journal durable."""
        self.journal = journals.write(self.request.state_dir, self.journal, **changes)

    @property
    def url(self) -> str:
        return self.request.target.database_url
