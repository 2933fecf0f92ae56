"""The overview and the retention page with a year of backups: as many queries as with a few, and no endless page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event

from app.extensions import db
from app.models import BackupHistory, BackupSlot, utcnow
from app.services.inputs import SettingsInput
from app.services.installation import settings
from app.services.retention import retention
from tests.support.application import TESTER
from tests.support.browser import Browser, drawn
from tests.support.scheduling import make_schedule

PAGES = ("/", "/retention/")


def fill(storage: Path, number: int) -> None:
    """Add that many hourly backups with their slots and (empty) files; one in fifty failed."""
    schedule = make_schedule(frequency="hourly")
    now = utcnow().replace(minute=0, second=0, microsecond=0)
    rows, slots = [], []
    for hours in range(number):
        moment, name, failed = now - timedelta(hours=hours), f"motovaultpro_backup_{uuid4().hex}.tar.gz", hours % 50 == 49
        row: dict[str, Any] = {"id": uuid4(), "kind": "scheduled", "status": "failed" if failed else "completed"}
        row |= {"created_at": moment, "started_at": moment, "finished_at": moment, "error": "x" if failed else None}
        row |= {"filename": None if failed else name, "size_bytes": None if failed else 1000, "sha256": "ab" * 32}
        rows.append(row | {"verified_at": None if failed else moment, "notified_at": moment, "schedule_id": schedule.id})
        slot = {"schedule_id": schedule.id, "scheduled_for": moment, "status": row["status"], "backup_id": row["id"]}
        slots.append(slot | {"attempts": 1})
        if not failed:
            (storage / name).write_bytes(bytes(1000))
    db.session.execute(BackupHistory.__table__.insert(), rows)  # type: ignore[attr-defined]
    db.session.execute(BackupSlot.__table__.insert(), slots)  # type: ignore[attr-defined]
    db.session.commit()
    settings.update(TESTER, SettingsInput.model_validate({"keep_hourly": 10_000}))
    retention.refresh()


@contextmanager
def counted() -> Iterator[list[str]]:
    """Collect the statements that are sent to PostgreSQL."""
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(db.engine, "before_cursor_execute", note)


def number_of_queries(admin: Browser, path: str) -> int:
    """Return the number of statements that a page takes with warm caches."""
    admin.get(path)
    with counted() as seen:
        admin.get(path)
    return len(seen)


@pytest.mark.parametrize("path", PAGES)
def test_many_backups_take_no_more_queries_than_a_few(admin: Browser, storage_dir: Path, path: str) -> None:
    fill(storage_dir, 3)
    few = number_of_queries(admin, path)
    fill(storage_dir, 1200)
    db.session.query(BackupHistory).filter(BackupHistory.status == "failed").update({"error": "y"})
    db.session.commit()
    assert number_of_queries(admin, path) == few
    assert few < 60


def test_ten_thousand_backups_are_drawn_with_a_few_hundred_marks(admin: Browser, storage_dir: Path) -> None:
    fill(storage_dir, 10_000)
    page = admin.get("/")
    assert "9,800 backups, 9.8 MB" in page.by_id("kept")
    marks = [element for element in page.root.iter() if "spot" in element.get("class", "").split()]
    assert 20 < len(marks) < 300
    assert any("9," in "".join(element.itertext()) for element in drawn(page, "timeline"))
    days = [element for element in page.root.iter() if element.get("class", "").startswith("day day-")]
    assert len(days) == 366 + 5
    assert sum(element.get("class") == "day day-failed" for element in days) > 100
    assert len(page.html) < 200_000
    kept = admin.get("/retention/")
    assert "Page 1 of 196" in kept.text
    assert len(kept.html) < 200_000


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("path", PAGES)
def test_pictures_of_nothing_and_of_one_backup(admin: Browser, storage_dir: Path, path: str, number: int) -> None:
    if number:
        fill(storage_dir, number)
    page = admin.get(path)
    assert len(drawn(page, "timeline")) == number
    assert len(drawn(page, "storage")) == number
    if path == "/":
        assert len(drawn(page, "calendar")) == number
    else:
        assert ("Nothing is kept yet" in page.text) is not bool(number)
