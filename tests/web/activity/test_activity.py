"""The activity page: who did what, in plain words, found again by filters."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from app.extensions import db
from app.models import AuditEntry, BackupHistory, utcnow
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.backups import backups
from app.services.people import admins
from app.web.activity import activity_words
from tests.support.application import EMAIL, PASSWORD
from tests.support.browser import Browser, Page

APP = Path(__file__).resolve().parents[3] / "app"
SCRIPT = Actor("token", "5f6b1c1e-0000-4000-8000-000000000001", "nightly script", "198.51.100.7")
MakeRow = Callable[..., BackupHistory]


def note(action: str, actor: Actor = SCRIPT, days_ago: int = 0, **detail: object) -> None:
    """Add an entry that is some days old."""
    audit.record(actor, action, "settings", None, detail)
    db.session.flush()
    newest = db.session.scalars(db.select(AuditEntry).order_by(AuditEntry.id.desc())).first()
    assert newest is not None
    newest.at = utcnow() - timedelta(days=days_ago)
    db.session.commit()


def lines(page: Page) -> list[str]:
    """Return what the page says was done, newest first."""
    return [" ".join("".join(span.itertext()).split()) for span in page.select("span") if "what " in span.get("class", "")]


def actions_in_code() -> set[str]:
    """Return every action that the code records."""
    found: set[str] = set()
    for path in APP.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and re.search(r"(audit\.record|record_download|_note)$", ast.unparse(node.func)):
                texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
                found |= {text for text in texts if isinstance(text, str) and re.fullmatch(r"[a-z_]+\.[a-z_]+", text)}
    return found


def test_every_action_has_its_words_and_is_in_the_filter() -> None:
    recorded = actions_in_code()
    assert len(recorded) > 35
    assert recorded <= set(activity_words.WORDS)
    offered = {action for group in activity_words.choices().values() for action in group}
    assert set(activity_words.WORDS) <= offered


def test_a_login_is_told_with_who_and_from_where(admin: Browser) -> None:
    page = admin.get("/activity/")
    assert lines(page) == ["Logged in", f"Made {EMAIL} an admin"]
    assert "127.0.0.1" in page.text
    assert "2 entries" in page.text


def test_a_failed_and_a_throttled_login_and_a_logout_are_told(admin: Browser) -> None:
    admin.submit("/activity/", "/logout")
    for _ in range(5):
        admin.submit("/login", "/login", 401, email=EMAIL, password="wrong")
    for _ in range(3):
        admin.submit("/login", "/login", 429, email=EMAIL, password="wrong")
    told = [entry.action for entry in audit.list_entries().items]
    assert told == ["login.throttled", *["login.failed"] * 5, "logout", "login", "admin.created"]
    throttled = audit.list_entries(action="login.throttled").items[0]
    assert throttled.address == "127.0.0.1"
    assert throttled.detail == {"email": EMAIL}


def test_a_download_is_told_once_however_many_pieces_it_took(admin: Browser, make_row: MakeRow) -> None:
    row = make_row()
    url = f"/backups/{row.id}/download"
    for part in ("bytes=0-4", "bytes=5-9", "bytes=10-"):
        assert admin.open("GET", url, headers={"Range": part}).status_code == 206
    assert audit.list_entries(action="backup.downloaded").total == 1
    assert admin.open("GET", url).status_code == 200
    assert admin.open("HEAD", url).status_code == 200
    assert audit.list_entries(action="backup.downloaded").total == 2
    page = admin.get("/activity/?action=backup.downloaded")
    assert lines(page) == ["Downloaded a backup’s archive"] * 2
    assert [link.get("href") for link in page.select("a") if link.text == row.filename] == [f"/backups/{row.id}"] * 2


def test_a_deleted_thing_is_named_but_not_linked(admin: Browser, make_row: MakeRow) -> None:
    row = make_row("failed")
    row_id = row.id
    backups.delete(SCRIPT, row_id)
    page = admin.get("/activity/?action=backup.")
    assert lines(page) == ["Deleted a backup"]
    assert not page.select("a", href=f"/backups/{row_id}")
    assert "nightly script" in page.text


def test_one_sees_everything_about_one_thing(admin: Browser, make_row: MakeRow) -> None:
    row, other = make_row(), make_row()
    backups.update(SCRIPT, row.id, pinned=True)
    backups.update(SCRIPT, other.id, pinned=True)
    page = admin.get(f"/activity/?subject_type=backup&subject_id={row.id}")
    assert lines(page) == ["Changed a backup’s pin or note"]
    assert f"Everything about this backup ({row.filename})." in page.text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("who=nightly", ["Sent a test message", "Changed the settings"]),
        ("who=198.51", ["Sent a test message", "Changed the settings"]),
        ("who=%25", []),
        ("action=settings.changed", ["Changed the settings"]),
        ("who=nightly&until={old}", ["Changed the settings"]),
        ("who=nightly&since={young}", ["Sent a test message"]),
        ("who=nightly&since={old}&until={old}", ["Changed the settings"]),
        ("action=no-such-action&who=nightly", ["Sent a test message", "Changed the settings"]),
    ],
)
def test_filters_find_what_they_say(admin: Browser, query: str, expected: list[str]) -> None:
    note("settings.changed", days_ago=10, undo_hours=48)
    note("notifications.tested", failed=0)
    days = {"old": f"{utcnow() - timedelta(days=10):%Y-%m-%d}", "young": f"{utcnow() - timedelta(days=2):%Y-%m-%d}"}
    assert lines(admin.get(f"/activity/?{query.format(**days)}")) == expected


def test_a_day_that_is_none_is_told_at_its_field(admin: Browser) -> None:
    page = admin.get("/activity/?since=yesterday", 422)
    field = page.select("input", id="filter-since")[0]
    assert field.get("aria-invalid") == "true"
    assert "year-month-day" in page.by_id(field.get("aria-describedby", ""))
    assert page.select("a", href="#filter-since")
    page = admin.get("/activity/?since=2026-03-02&until=2026-03-01", 422)
    assert "before the first day" in page.by_id("filter-until-error")


@pytest.mark.parametrize(
    "query", ["since=0001-01-01", "until=9999-12-31", "page=99999999999", "page=0", "who=%00", "who=%C3"]
)
def test_odd_queries_get_a_page(admin: Browser, query: str) -> None:
    admin.get(f"/activity/?{query}")


def test_what_changed_is_in_the_details(admin: Browser) -> None:
    note("settings.changed", undo_hours=48, recipients=["a@example.com", "b@example.com"], notify_success=True)
    text = admin.get("/activity/?action=settings.changed").text
    for words in ("Hours to undo a restore 48", "Recipients a@example.com, b@example.com", "Notify success yes"):
        assert words in text


def test_what_a_detail_holds_is_shown_as_text(admin: Browser) -> None:
    note("token.created", name="<script>alert(1)</script>{email}")
    page = admin.get("/activity/")
    assert "<script>alert(1)</script>{email}" in page.text
    assert "<script>alert(1)" not in page.html


def test_long_lists_have_pages_that_keep_the_filters(admin: Browser) -> None:
    for number in range(60):
        audit.record(SCRIPT, "backup.rescan", "storage", None, {"added": number})
    db.session.commit()
    page = admin.get("/activity/?who=nightly")
    assert "60 entries" in page.text
    assert len(lines(page)) == 50
    assert page.select("a", rel="next")[0].get("href") == "/activity/?page=2&who=nightly"
    assert len(lines(admin.get("/activity/?page=2&who=nightly"))) == 10


def test_a_wrong_password_where_it_is_asked_for_again_is_told(admin: Browser) -> None:
    admin.submit("/recovery", "/recovery", 422, password="wrong")
    admin.submit("/recovery", "/recovery", 200, password=PASSWORD)
    assert lines(admin.get("/activity/"))[:2] == [
        "Downloaded the recovery sheet",
        "Typed a wrong password where it was asked for again",
    ]
    assert audit.list_entries(subject_id=str(admins.find(EMAIL).id)).total >= 2
