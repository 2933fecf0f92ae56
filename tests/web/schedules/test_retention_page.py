"""What is kept and why, what leaves next, the forecast, the cleanup; and the reason on each backup's own page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from app.models import BackupHistory, utcnow
from app.services.backups import backups
from app.services.inputs import SettingsInput
from app.services.installation import settings
from app.services.retention import retention
from tests.support.application import TESTER
from tests.support.browser import Browser, drawn
from tests.support.scheduling import make_schedule

Make = Callable[..., BackupHistory]


def keep_only(number: int) -> None:
    """Keep that many backups, by the hourly quota alone."""
    quotas = {"keep_hourly": number, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0}
    settings.update(TESTER, SettingsInput.model_validate(quotas))
    retention.refresh()


def test_without_backups_the_page_is_there_and_says_so(admin: Browser) -> None:
    page = admin.get("/retention/")
    assert "no completed backups yet" in page.by_id("kept")
    assert "0 B" in page.by_id("forecast")


def test_every_kept_backup_is_listed_with_its_reason(admin: Browser, make_row: Make) -> None:
    make_row()
    make_row(pinned=True)
    make_row("failed")
    page = admin.get("/retention/")
    words = page.by_id("kept")
    assert "hourly 1 of 8" in words
    assert "because it is pinned" in words
    assert len(page.select("table", aria_label="Backups that are kept")[0].findall(".//{*}tbody/{*}tr")) == 2
    assert "Hourly 8 1" in page.by_id("tiers")


def test_with_a_schedule_it_says_what_leaves_next_and_what_there_will_be(admin: Browser, make_row: Make) -> None:
    keep_only(2)
    make_row(verified_at=utcnow(), size_bytes=1_000_000)
    row = make_row(verified_at=utcnow(), size_bytes=1_000_000)
    assert "no new backups replace them" in admin.get("/retention/").by_id("leaving")
    make_schedule(frequency="hourly", minute=(utcnow().minute + 30) % 60)
    page = admin.get("/retention/")
    assert any(f"in {when}" in page.by_id("leaving") for when in ("1 hour", *(f"{minutes} minute" for minutes in range(60))))
    assert page.select("a", href=f"/backups/{row.id}")
    assert page.by_id("forecast").count("2 ≈ 2 MB") == 3


def test_the_picture_shows_each_tier_and_a_table_says_the_same(admin: Browser, make_row: Make) -> None:
    settings.update(TESTER, SettingsInput.model_validate({"keep_weekly": 0}))
    for _ in range(3):
        make_row(verified_at=utcnow())
    make_row(pinned=True)
    page = admin.get("/retention/")
    picture = drawn(page, "timeline")[0]
    labels = ["".join(text.itertext()) for text in picture.findall(".//{*}text") if text.get("class") == "lane-label"]
    assert labels[0] == "Hourly · 3 of 8"
    assert labels[-1].startswith("Other reasons")
    assert not [label for label in labels if label.startswith("Weekly")]
    words = page.by_id("tiers")
    assert "Weekly off 0" in words
    assert "Other reasons – 1" in words
    assert drawn(page, "storage")


def test_what_nothing_keeps_goes_by_the_button(admin: Browser, make_row: Make, storage_dir: Path) -> None:
    keep_only(1)
    rows = [make_row(verified_at=utcnow()) for _ in range(3)]
    page = admin.get("/retention/")
    assert "2 backups" in page.by_id("goes")
    admin.submit(page, "/retention/cleanup")
    page = admin.get("/retention/")
    assert "The cleanup deleted 2 backups" in page.by_id("flashes")
    assert not page.select("section", id="goes")
    assert [row.id for row in backups.list_backups().items] == [rows[0].id]
    assert [path.name for path in storage_dir.glob("*.tar.gz")] == [rows[0].filename]


def test_an_archive_that_is_missing_is_named(admin: Browser, make_row: Make, storage_dir: Path) -> None:
    make_row()
    gone = make_row()
    (storage_dir / (gone.filename or "")).unlink()
    page = admin.get("/retention/")
    assert "1 archive is not in the storage folder" in page.text
    assert page.select("a", href=f"/backups/{gone.id}")


def test_long_lists_are_paged(admin: Browser, make_row: Make) -> None:
    keep_only(100)
    for _ in range(52):
        make_row()
    page = admin.get("/retention/")
    assert "Page 1 of 2" in page.text
    assert "hourly 52 of 100" in admin.get("/retention/?page=2").by_id("kept")
    assert "on this page" in admin.get("/retention/?page=9").by_id("kept")


def test_a_backup_explains_why_it_is_kept(admin: Browser, make_row: Make) -> None:
    row = make_row(verified_at=utcnow())
    retention.refresh()
    page = admin.get(f"/backups/{row.id}")
    words = page.by_id("explanation")
    assert words.startswith("Kept as hourly 1 of 8")
    assert "monthly 1 of 12" in words
    assert "the quotas decide" in page.by_id("facts")
    assert "hourly, daily, weekly, monthly" in admin.get("/backups/").by_id("backups")


def test_a_backup_that_did_not_complete_has_nothing_to_explain(admin: Browser, make_row: Make) -> None:
    words = admin.get(f"/backups/{make_row('failed').id}").by_id("facts")
    assert "Retention" not in words
