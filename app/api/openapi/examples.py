"""Examples for the OpenAPI document: rows as they would be in the database, serialised by the same schemas as real ones.

A field added to a schema appears here automatically, or generating the document fails, and with it a test.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel

from app.api.schemas.backups import BackupChange, BackupOut, BackupPage, NewBackup, Verification
from app.api.schemas.common import PageOut
from app.api.schemas.health import CheckOut, HealthOut
from app.api.schemas.people import InvitationIn, PasswordIn, TokenIn, TokenMade, TokenOut, TokenPage
from app.api.schemas.restores import PreviewIn, RestoreChoice, RestoreIn, RestoreOut, TrustIn
from app.api.schemas.schedules import ScheduleOut, SchedulePage
from app.api.schemas.settings import SettingsIn
from app.models import ApiToken, BackupHistory, BackupSchedule, Base, Restore
from app.services.inputs import PlanInput, ScheduleInput, Toggle

Row = TypeVar("Row", bound=Base)

ADMIN = "admin@example.com"
BACKUP_ID = UUID("0f4c2b7e-52a8-4a52-b3cf-6d2a1c9be0d1")
SCHEDULE_ID = UUID("3d1a7c52-0d3c-4d5c-9a63-2f1f6f0c8f10")
DUE = datetime(2026, 1, 4, 2, tzinfo=UTC)
STARTED, FINISHED = DUE + timedelta(seconds=2), DUE + timedelta(seconds=41)


def example_of(model: type[BaseModel]) -> Any:
    """Return the example of a schema as JSON, or None if it has none."""
    example = _examples().get(model)
    return None if example is None else example.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _saved(row: Row) -> Row:
    """Fill in the defaults that the columns would get when the row is saved."""
    for column in row.__table__.columns:
        default: Any = column.default
        if default is not None and getattr(row, column.key) is None:
            setattr(row, column.key, default.arg(None) if default.is_callable else default.arg)
    return row


def _page(page: type[PageOut[Any]], item: BaseModel) -> PageOut[Any]:
    return page(items=[item], page=1, page_size=50, total=1)


def _backup() -> BackupOut:
    return BackupOut.with_damage(
        _saved(
            BackupHistory(
                id=BACKUP_ID,
                filename="motovaultpro_backup_20260104_020002.tar.gz",
                kind="scheduled",
                status="completed",
                bytes_done=48_211_004,
                bytes_total=48_211_004,
                schedule_id=SCHEDULE_ID,
                scheduled_for=DUE,
                created_at=DUE + timedelta(seconds=1),
                started_at=STARTED,
                finished_at=FINISHED,
                size_bytes=31_400_112,
                sha256="9f2b4c0a6f0d1e7b8f3a5c6d7e8f90112233445566778899aabbccddeeff0011",
                summary={
                    "tables": 18,
                    "rows": 40_210,
                    "documents": 913,
                    "documents_bytes": 27_004_511,
                    "server_version": "18.1",
                },
                categories=["hourly", "daily", "weekly"],
                expires_at=STARTED + timedelta(days=28),
                verified_at=FINISHED,
                requested_by="scheduler",
                attempt=1,
            )
        ),
        damaged=None,
    )


def _restore() -> RestoreOut:
    return RestoreOut.of(
        _saved(
            Restore(
                id=UUID("b0c2f3c4-6d3e-4d0b-93b4-0c1d2e3f4a5b"),
                backup_id=BACKUP_ID,
                safety_backup_id=UUID("c7be3a56-8e0e-4c57-a3c9-55c3f1b2a7e4"),
                scope="all",
                status="in_progress",
                phase="database",
                bytes_done=12_000_000,
                bytes_total=48_211_004,
                created_at=datetime(2026, 1, 5, 9, 12, tzinfo=UTC),
                started_at=datetime(2026, 1, 5, 9, 12, 1, tzinfo=UTC),
                requested_by=ADMIN,
                attempt=1,
            )
        )
    )


def _schedule() -> ScheduleOut:
    return ScheduleOut.of(
        _saved(
            BackupSchedule(
                id=SCHEDULE_ID,
                name="Every night",
                frequency="daily",
                minute=0,
                hour=3,
                timezone="Europe/Berlin",
                keep_daily=14,
                next_run_at=DUE + timedelta(days=1),
                last_run_at=STARTED,
                last_status="completed",
                created_at=datetime(2025, 12, 1, 8, tzinfo=UTC),
                updated_at=datetime(2025, 12, 1, 8, tzinfo=UTC),
            )
        )
    )


def _token() -> TokenOut:
    return TokenOut.model_validate(
        _saved(
            ApiToken(
                id=UUID("5b1f6a0c-93c1-4a35-8a3c-0c9b62e1d3aa"),
                name="nightly script",
                prefix="mvb_Xy12Zw",
                scopes=["backup"],
                created_by_name=ADMIN,
                created_at=datetime(2026, 1, 2, 10, tzinfo=UTC),
                expires_at=datetime(2027, 1, 2, 10, tzinfo=UTC),
                last_used_at=STARTED,
                last_used_address="192.0.2.10",
            )
        )
    )


@cache
def _examples() -> dict[type[BaseModel], BaseModel]:
    """Build each example once, when the document is first requested."""
    backup, restore, schedule, token = _backup(), _restore(), _schedule(), _token()
    found: tuple[BaseModel, ...] = (
        NewBackup(note="before the upgrade"),
        BackupChange.model_validate({"pinned": True, "note": "keep: before the upgrade"}),
        Verification(restore=True),
        backup,
        _page(BackupPage, backup),
        PreviewIn(scope="all", exact=True),
        RestoreIn.model_validate({"confirm": "motovaultpro", "scope": "all", "safety_backup": True}),
        RestoreChoice(),
        restore,
        TrustIn.model_validate({"words": "I trust this archive"}),
        ScheduleInput.model_validate(
            {"name": "Every night", "frequency": "daily", "hour": 3, "timezone": "Europe/Berlin", "keep_daily": 14}
        ),
        schedule,
        _page(SchedulePage, schedule),
        Toggle(enabled=False),
        SettingsIn.model_validate({"keep_daily": 14, "notify_success": False, "recipients": ["ops@example.com"]}),
        PlanInput(keep_hourly=4, keep_daily=14, schedules=[]),
        TokenIn.model_validate({"name": "nightly script", "scopes": ["backup"]}),
        TokenMade(**token.model_dump(), secret="mvb_not-a-real-secret"),  # noqa: S106 - an example
        _page(TokenPage, token),
        InvitationIn(email="new@example.com"),
        PasswordIn(),
        HealthOut(status="ok", checks=[CheckOut(name="database", ok=True, detail="PostgreSQL answers.")]),
    )
    return {type(example): example for example in found}
