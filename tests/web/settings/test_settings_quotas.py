"""Settings: quotas, which are tried dry before they are saved."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from app.models import BackupHistory, utcnow
from app.services.audit import audit
from app.services.backups import backups
from app.services.installation import settings
from tests.support.application import PASSWORD
from tests.support.browser import Browser, Page

Make = Callable[..., BackupHistory]
ONLY_TWO = {"keep_hourly": "2", "keep_daily": "0", "keep_weekly": "0", "keep_monthly": "0"}


def test_the_settings_begin_with_the_quotas_that_count_now(admin: Browser) -> None:
    assert admin.redirected("/settings/") == "/settings/quotas"
    page = admin.get("/settings/quotas")
    shown = page.form("/settings/quotas")
    assert [shown[f"keep_{name}"] for name in ("hourly", "daily", "weekly", "monthly")] == ["8", "7", "4", "12"]


def test_what_would_be_deleted_is_shown_before_anything_is_saved(admin: Browser, make_row: Make) -> None:
    rows = [make_row(verified_at=utcnow()) for _ in range(4)]
    page = Page(admin.submit("/settings/quotas", "/settings/quotas", 200, **ONLY_TWO))
    words = page.by_id("dry-run")
    assert "would delete 2 backups" in words
    linked = {link.get("href") for link in page.select("a")}
    assert {f"/backups/{row.id}" for row in rows[2:]} <= linked
    assert f"/backups/{rows[0].id}" not in linked
    assert "365" in words or "in 1 year" in words
    assert settings.view().keep_hourly == 8
    assert backups.list_backups().total == 4


def test_the_quotas_are_saved_with_the_password_and_count_at_once(admin: Browser, make_row: Make) -> None:
    for _ in range(3):
        make_row(verified_at=utcnow())
    review = Page(admin.submit("/settings/quotas", "/settings/quotas", 200, **ONLY_TWO))
    answer = admin.submit(review, "/settings/quotas/save", password=PASSWORD)
    assert answer.location == "/retention/"
    stored = settings.view()
    assert (stored.keep_hourly, stored.keep_daily, stored.keep_monthly) == (2, 0, 0)
    assert backups.list_backups().total == 3
    assert "1 backup" in admin.get("/retention/").by_id("goes")


def test_a_wrong_password_saves_nothing_and_shows_the_dry_run_again(admin: Browser, make_row: Make) -> None:
    for _ in range(3):
        make_row(verified_at=utcnow())
    review = Page(admin.submit("/settings/quotas", "/settings/quotas", 200, **ONLY_TWO))
    again = Page(admin.submit(review, "/settings/quotas/save", 422, password="wrong"))
    assert "wrong" in again.by_id("password-error")
    assert "would delete 1 backup" in again.by_id("dry-run")
    assert settings.view().keep_hourly == 8
    assert audit.list_entries(action="settings.changed").total == 0


@pytest.mark.parametrize(
    ("typed", "words"), [("", "Give a number"), ("-1", "greater than"), ("x", "valid integer"), ("10001", "less")]
)
def test_a_bad_quota_is_refused_at_its_field(admin: Browser, typed: str, words: str) -> None:
    page = Page(admin.submit("/settings/quotas", "/settings/quotas", 422, keep_daily=typed))
    assert words in page.by_id("keep_daily-error")


def test_a_bad_quota_that_is_sent_to_be_saved_at_once_is_refused_too(admin: Browser) -> None:
    review = Page(admin.submit("/settings/quotas", "/settings/quotas", 200, **ONLY_TWO))
    page = Page(admin.submit(review, "/settings/quotas/save", 422, password=PASSWORD, keep_weekly="-5"))
    assert "greater than" in page.by_id("keep_weekly-error")
    assert settings.view().keep_weekly == 4


def test_quotas_that_delete_nothing_say_so(admin: Browser, make_row: Make) -> None:
    make_row()
    page = Page(admin.submit("/settings/quotas", "/settings/quotas", 200, keep_daily="30"))
    assert "Nothing that is kept now" in page.by_id("dry-run")


@pytest.mark.parametrize("path", ["/settings/quotas", "/settings/notifications", "/settings/limits", "/retention/"])
def test_settings_and_retention_are_for_admins(visitor: Browser, path: str) -> None:
    assert visitor.redirected(path).startswith("/login?next=")
