"""Examples for the OpenAPI document, by the name of the model; a test holds each against its model."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

ID = "0f4c2b7e-52a8-4a52-b3cf-6d2a1c9be0d1"
SAFETY_ID = "c7be3a56-8e0e-4c57-a3c9-55c3f1b2a7e4"
SCHEDULE_ID = "3d1a7c52-0d3c-4d5c-9a63-2f1f6f0c8f10"
STARTED, FINISHED = "2026-01-04T03:00:02Z", "2026-01-04T03:00:41Z"

BACKUP = {
    "id": ID,
    "filename": "motovaultpro_backup_20260104_030002.tar.gz",
    "kind": "scheduled",
    "status": "completed",
    "phase": None,
    "bytes_done": 48_211_004,
    "bytes_total": 48_211_004,
    "progress": {"percent": 100.0, "rate_bytes_per_second": None, "seconds_left": None},
    "schedule_id": SCHEDULE_ID,
    "scheduled_for": "2026-01-04T03:00:00Z",
    "created_at": "2026-01-04T03:00:01Z",
    "started_at": STARTED,
    "finished_at": FINISHED,
    "size_bytes": 31_400_112,
    "sha256": "9f2b4c0a6f0d1e7b8f3a5c6d7e8f90112233445566778899aabbccddeeff0011",
    "summary": {"tables": 18, "rows": 40_210, "files": 913},
    "categories": ["hourly", "daily", "weekly"],
    "expires_at": "2026-02-01T03:00:02Z",
    "pinned": False,
    "note": None,
    "warnings": [],
    "error": None,
    "damaged": None,
    "verified_at": FINISHED,
    "verify_requested_at": None,
    "verify_restoring": False,
    "restore_tested_at": None,
    "restore_test_seconds": None,
    "origin": "own",
    "trusted_at": None,
    "trusted_by": None,
    "cancel_requested_at": None,
    "requested_by": "scheduler",
    "attempt": 1,
}
RESTORE = {
    "id": "b0c2f3c4-6d3e-4d0b-93b4-0c1d2e3f4a5b",
    "backup_id": ID,
    "safety_backup_id": SAFETY_ID,
    "scope": "all",
    "safety_backup": True,
    "status": "in_progress",
    "phase": "loading the database",
    "bytes_done": 12_000_000,
    "bytes_total": 48_211_004,
    "progress": {"percent": 24.9, "rate_bytes_per_second": 6_000_000.0, "seconds_left": 6.0},
    "created_at": "2026-01-05T09:12:00Z",
    "started_at": "2026-01-05T09:12:01Z",
    "swap_at": None,
    "finished_at": None,
    "error": None,
    "warnings": [],
    "result": {},
    "undo_until": None,
    "undone_at": None,
    "discarded_at": None,
    "undo_possible": False,
    "cancel_requested_at": None,
    "requested_by": "admin@example.com",
    "attempt": 1,
}
SCHEDULE = {
    "id": SCHEDULE_ID,
    "name": "Every night",
    "frequency": "daily",
    "minute": 0,
    "hour": 3,
    "day_of_week": None,
    "day_of_month": None,
    "cron_expression": "0 3 * * *",
    "timezone": "Europe/Berlin",
    "description": "At 03:00",
    "enabled": True,
    "keep_hourly": None,
    "keep_daily": 14,
    "keep_weekly": None,
    "keep_monthly": None,
    "next_run_at": "2026-01-05T02:00:00Z",
    "last_run_at": STARTED,
    "last_status": "completed",
    "created_at": "2025-12-01T08:00:00Z",
    "updated_at": "2025-12-01T08:00:00Z",
}
TOKEN = {
    "id": "5b1f6a0c-93c1-4a35-8a3c-0c9b62e1d3aa",
    "name": "nightly script",
    "prefix": "mvb_Xy12Zw",
    "scopes": ["backup"],
    "created_by_name": "admin@example.com",
    "created_at": "2026-01-02T10:00:00Z",
    "expires_at": "2027-01-05T09:00:00Z",
    "last_used_at": STARTED,
    "last_used_address": "192.0.2.10",
    "revoked_at": None,
}


def _page(item: dict[str, Any]) -> dict[str, Any]:
    return {"items": [item], "page": 1, "page_size": 50, "total": 1}


EXAMPLES: dict[str, Any] = {
    "NewBackup": {"note": "before the upgrade"},
    "BackupChange": {"pinned": True, "note": "keep: before the upgrade"},
    "Verification": {"restore": True},
    "BackupOut": BACKUP,
    "BackupPage": _page(BACKUP),
    "PreviewIn": {"scope": "all", "exact": True},
    "RestoreIn": {"confirm": "motovaultpro", "scope": "all", "safety_backup": True},
    "RestoreChoice": {},
    "RestoreOut": RESTORE,
    "TrustIn": {"words": "I trust this archive"},
    "ScheduleInput": {"name": "Every night", "frequency": "daily", "hour": 3, "timezone": "Europe/Berlin", "keep_daily": 14},
    "ScheduleOut": SCHEDULE,
    "SchedulePage": _page(SCHEDULE),
    "Toggle": {"enabled": False},
    "SettingsIn": {"keep_daily": 14, "notify_success": False, "recipients": ["ops@example.com"]},
    "PlanInput": {"keep_hourly": 4, "keep_daily": 14, "schedules": []},
    "TokenIn": {"name": "nightly script", "scopes": ["backup"]},
    "TokenMade": TOKEN | {"secret": "mvb_not-a-real-secret"},
    "TokenPage": _page(TOKEN),
    "InvitationIn": {"email": "new@example.com"},
    "PasswordIn": {},
    "HealthOut": {"status": "ok", "checks": [{"name": "database", "ok": True, "detail": "PostgreSQL answers."}]},
}


def example_of(model: type[BaseModel]) -> Any:
    """Given a model, return its example, or None."""
    return EXAMPLES.get(model.__name__)
