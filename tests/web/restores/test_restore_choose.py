"""The first step of a restore: which backup."""

from __future__ import annotations

from collections.abc import Callable

from app.models import BackupHistory, utcnow
from tests.support.browser import Browser

Make = Callable[..., BackupHistory]
PAGE = "/restores/new"


def test_without_backups_the_page_says_where_one_comes_from(admin: Browser) -> None:
    page = admin.get(PAGE)
    assert "nothing to restore from yet" in page.text
    assert page.select("a", href="/backups/upload")


def test_only_completed_backups_can_be_chosen_the_newest_first(admin: Browser, make_row: Make) -> None:
    newest = make_row(verified_at=utcnow(), note="Before <the> upgrade")
    tested = make_row(restore_tested_at=utcnow())
    make_row("failed")
    make_row("in_progress")
    strange = make_row(kind="uploaded", origin="foreign", summary={})
    page = admin.get(PAGE)
    chosen = [item for item in page.select("li") if "card" in item.get("class", "")]
    words = [" ".join("".join(item.itertext()).split()) for item in chosen]
    assert len(words) == 3
    assert "Newest" in words[0]
    assert "Verified" in words[0]
    assert "“Before <the> upgrade”" in words[0]
    assert "14 tables, 48,210 rows · 312 documents" in words[0]
    assert "Restore tested" in words[1]
    assert "Untrusted" in words[2]
    for row in (newest, tested, strange):
        assert page.select("a", href=f"/backups/{row.id}/restore")


def test_the_choice_is_narrowed_down_by_note_and_comes_in_pages(admin: Browser, make_row: Make) -> None:
    for number in range(12):
        make_row(note=f"number {number}")
    first = admin.get(PAGE)
    assert len(first.select("li", **{"class_": "card"})) == 10
    second = admin.get(first.select("a", rel="next")[0].get("href", ""))
    assert len(second.select("li", **{"class_": "card"})) == 2
    assert "Newest" not in second.text
    assert len(admin.get(f"{PAGE}?text=NUMBER+11").select("li", **{"class_": "card"})) == 1
    assert "No backup matches" in admin.get(f"{PAGE}?text=zebra").text
    assert "This page is empty" in admin.get(f"{PAGE}?page=7").text


def test_the_steps_lead_back_to_the_choice(admin: Browser, make_row: Make) -> None:
    make_row()
    page = admin.get("/restores/")
    assert page.select("a", href=PAGE)
    steps = admin.get(PAGE).select("ol", aria_label="Steps of a restore")[0]
    assert [step.get("aria-current") for step in steps] == ["step", None, None, None, None]


def test_who_is_not_logged_in_chooses_nothing(visitor: Browser) -> None:
    assert visitor.redirected(PAGE).startswith("/login?next=")
