"""A running restore, its result, undo, the history, and where else they are shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from apiflask import APIFlask

from app.extensions import db
from app.models import BackupHistory, utcnow
from app.services.restores import restores
from app.web.restores import restore_view
from tests.support.application import PASSWORD
from tests.support.browser import Browser, Page
from tests.support.restore_pages import make_restore

Make = Callable[..., BackupHistory]


def test_page_and_live_update_show_the_same_progress(admin: Browser) -> None:
    row = make_restore("in_progress", phase="database", bytes_done=423, bytes_total=1000)
    page = admin.get(f"/restores/{row.id}")
    partial = admin.get(f"/restores/{row.id}/partial", fragment=True)
    assert partial.text in page.text
    assert "Loading the tables next to the live ones 42 %" in partial.text
    assert "Safety backup (done)" in partial.text
    assert [step.text for step in partial.select("li", aria_current="step")] == ["Tables"]


def test_every_phase_of_the_engine_has_words_and_a_step() -> None:
    phases = ("safety_backup", "prepare", "check", "database", "indexes", "documents", "verify", "swap", "health")
    assert tuple(restore_view.STEPS) == phases
    assert all(restore_view.restore_phase_name(phase) != phase.capitalize() for phase in phases)


def test_the_steps_leave_out_what_the_scope_does_not_have(admin: Browser) -> None:
    row = make_restore("in_progress", scope="documents", safety_backup=False)
    words = admin.get(f"/restores/{row.id}").by_id("head")
    assert "Indexes" not in words
    assert "Safety backup (done)" not in words


@pytest.mark.parametrize("phase", ["prepare", "check"])
def test_a_look_at_the_archive_before_the_safety_backup_does_not_count_it_as_done(admin: Browser, phase: str) -> None:
    row = make_restore("in_progress", phase=phase)
    assert "Safety backup (done)" not in admin.get(f"/restores/{row.id}").text


def test_a_restore_is_cancelled_until_its_swap(admin: Browser) -> None:
    row = make_restore("in_progress", phase="documents")
    page = admin.get(f"/restores/{row.id}")
    admin.submit(page, f"/restores/{row.id}/cancel")
    assert restores.get(row.id).cancel_requested_at is not None
    assert "Cancelling" in admin.get(f"/restores/{row.id}").text

    row = make_restore("in_progress", phase="swap", swap_at=utcnow())
    assert not admin.get(f"/restores/{row.id}").select("form", action=f"/restores/{row.id}/cancel")
    values = {"csrf_token": page.select("input", name="csrf_token")[0].get("value", "")}
    admin.open("POST", f"/restores/{row.id}/cancel", data=values)
    assert "can no longer be stopped" in admin.get(f"/restores/{row.id}").by_id("flashes")


def test_a_failed_restore_says_why_and_where_to_go_on(admin: Browser, make_row: Make) -> None:
    backup = make_row()
    row = make_restore("failed", backup_id=backup.id, scope="database")
    page = admin.get(f"/restores/{row.id}")
    assert "does not match its hash" in page.by_id("head")
    assert page.select("a", href=f"/backups/{backup.id}/restore?scope=database")


def test_a_cancelled_restore_says_that_nothing_has_changed(admin: Browser) -> None:
    assert "are unchanged" in admin.get(f"/restores/{make_restore('cancelled').id}").text


def test_the_result_shows_counts_gap_warnings_and_the_undo_with_its_deadline(admin: Browser, make_row: Make) -> None:
    row = make_restore(
        backup_id=make_row().id, safety_backup_id=make_row(kind="safety").id, warnings=["The role <x> is gone."]
    )
    page = admin.get(f"/restores/{row.id}")
    for expected in (
        "vehicles ≈ 10 1,000 +990",
        "old.later ≈ 1 missing disappears",
        "1 table keeps its number of rows, by estimate",
        "0.11 s",
        "11 before, 312 after",
        "The role <x> is gone.",
        "possible until",
        "in 23 hours",
    ):
        assert expected in page.text
    assert page.select("a", href=f"/restores/{row.id}/undo")


def test_counted_rows_before_are_not_marked_as_estimates(admin: Browser) -> None:
    table = {"schema": "public", "name": "vehicles", "rows_before": 10, "rows_after": 7, "approximate": False}
    row = make_restore(result={"tables": [table]})
    assert "vehicles 10 7 −3" in admin.get(f"/restores/{row.id}").text


def test_undoing_is_explained_first_and_what_keeps_it_from_working_is_told(admin: Browser) -> None:
    row = make_restore()
    path = f"/restores/{row.id}/undo"
    page = admin.get(path)
    assert "what was written since is kept, and can be brought back the same way for 24 hours" in page.text
    assert Page(admin.submit(page, path, 422)).by_id("password-error")
    refused = Page(admin.submit(page, path, 503, password=PASSWORD))
    assert refused.by_id("error-summary")
    assert restores.get(row.id).undone_at is None


def test_what_was_undone_can_be_brought_back(admin: Browser) -> None:
    row = make_restore(undone_at=utcnow())
    page = admin.get(f"/restores/{row.id}")
    assert "the state before this restore is live" in page.text
    assert "Bring the restored state back" in page.text
    assert "Bring the restored state back?" in admin.get(f"/restores/{row.id}/undo").text


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"undo_until": None}, "kept no state"),
        ({"undo_until": utcnow() - timedelta(hours=1)}, "no longer kept"),
        ({"discarded_at": utcnow()}, "no longer kept"),
    ],
)
def test_without_a_kept_state_the_safety_backup_is_the_way_back(
    admin: Browser, make_row: Make, columns: dict[str, object], reason: str
) -> None:
    safety = make_row(kind="safety")
    row = make_restore(safety_backup_id=safety.id, **columns)
    for path in (f"/restores/{row.id}", f"/restores/{row.id}/undo"):
        page = admin.get(path)
        assert reason in page.text
        assert page.select("a", href=f"/backups/{safety.id}/restore?scope=all")
        assert not page.select("form", action=f"/restores/{row.id}/undo")


def test_an_earlier_restore_is_undone_after_the_later_one(admin: Browser) -> None:
    row = make_restore(created_at=utcnow() - timedelta(hours=1))
    make_restore()
    assert "Undo that one first" in admin.get(f"/restores/{row.id}/undo").text


def test_the_history_lists_all_restores(admin: Browser) -> None:
    assert "Nothing has been restored yet" in admin.get("/restores/").text
    make_restore("failed", scope="documents")
    make_restore(undone_at=utcnow())
    page = admin.get("/restores/")
    for expected in ("Failed", "Documents only", "Undone", "1 min 0 s"):
        assert expected in page.text
    for _ in range(25):
        make_restore("cancelled")
    assert admin.get("/restores/").select("a", rel="next")
    assert "This page is empty" in admin.get("/restores/?page=9").text


def test_a_running_restore_is_announced_on_every_page_and_shown_on_the_list(admin: Browser, make_row: Make) -> None:
    backup = make_row()
    row = make_restore("in_progress", phase="verify")
    for path in (f"/backups/{backup.id}", "/restores/", "/recovery", "/backups/upload"):
        page = admin.get(path)
        assert "A restore is running" in page.by_id("restore-banner")
        assert page.select("a", href=f"/restores/{row.id}")
    listed = admin.get("/backups/")
    assert listed.select("section", data_live=f"/restores/{row.id}/partial")
    assert "Comparing what was restored" in listed.by_id("live")


def test_the_last_restore_is_on_top_while_it_can_be_undone(admin: Browser) -> None:
    row = make_restore()
    page = admin.get("/restores/")
    assert "Everything, 3 minutes ago Completed Can be undone until" in page.by_id("last-restore")
    assert page.select("a", href=f"/restores/{row.id}/undo")
    row.undo_until = None
    db.session.commit()
    assert "last-restore" not in admin.get("/restores/").html


@pytest.mark.parametrize("action", ["", "/partial", "/undo"])
def test_restores_are_for_admins_and_a_missing_one_has_a_page(visitor: Browser, app: APIFlask, action: str) -> None:
    assert visitor.redirected(f"/restores/{uuid4()}{action}").startswith("/login?next=")
    visitor.log_in("admin@example.com", "a long enough password")
    assert "Not found" in visitor.get(f"/restores/{uuid4()}{action}", 404).text
