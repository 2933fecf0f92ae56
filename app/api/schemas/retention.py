"""The JSON of the retention plan and of a cleanup."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel

from app.api.schemas.common import Output
from app.services.retention.retention import Explanation, PlanView


class ExplanationOut(Output):
    """Why a backup is kept. `leaves_at` null: never, or later than the forecast reaches."""

    backup_id: UUID
    filename: str | None
    started_at: datetime
    size_bytes: int
    kind: str
    keep: bool
    categories: list[str]
    expires_at: datetime | None
    leaves_at: datetime | None
    text: str


class ForecastOut(Output):
    """The forecast number and total size of backups at a time."""

    at: datetime
    backups: int
    bytes: int


class PlanOut(BaseModel):
    """What a policy keeps and deletes now; `newly_deleted` are the deleted ones that the current policy keeps."""

    quotas: dict[str, int]
    kept: int
    kept_bytes: int
    deleted: int
    deleted_bytes: int
    newly_deleted: list[UUID]
    would_delete: list[ExplanationOut]
    would_keep: list[ExplanationOut]
    missing: list[UUID]
    damaged: list[UUID]
    forecast: list[ForecastOut]

    @classmethod
    def of(cls, view: PlanView) -> PlanOut:
        """Build the JSON of a plan."""

        def explained(entries: list[Explanation]) -> list[ExplanationOut]:
            return [ExplanationOut.model_validate(entry) for entry in entries]

        return cls(
            quotas=view.quotas,
            kept=len(view.kept),
            kept_bytes=view.kept_bytes,
            deleted=len(view.deleted),
            deleted_bytes=view.deleted_bytes,
            newly_deleted=view.newly_deleted,
            would_delete=explained(view.deleted),
            would_keep=explained(view.kept),
            missing=view.missing,
            damaged=view.damaged,
            forecast=[ForecastOut.model_validate(entry) for entry in view.forecast],
        )


class CleanupOut(Output):
    """What a cleanup did."""

    deleted: list[str]
    freed_bytes: int
    in_use: list[str]
    trouble: list[str]
    failed_rows: int
    orphans: list[str]
    missing: int
    damaged: int
