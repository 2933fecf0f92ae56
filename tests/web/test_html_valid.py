"""Every page is valid HTML with one heading, a title, labelled controls and no id twice; with and without data."""

from __future__ import annotations

import pytest
from apiflask import APIFlask

from tests.support.browser import Browser, Page
from tests.support.pages import NOT_FOUND, PUBLIC_PAGES, paths, paths_without_things, unlisted
from tests.support.things import Things, make_running, make_things


@pytest.fixture
def things(app: APIFlask) -> Things:
    """One of everything."""
    return make_things(app)


def faults_of(visitor: Browser, pages: list[str]) -> dict[str, str]:
    """Return the problem of each faulty page among the paths."""
    faults = {}
    for path in pages:
        try:
            check(visitor.get(path))
        except AssertionError as error:
            faults[path] = str(error)[:400]
    return faults


def check(page: Page) -> None:
    """Check that a page has what every page needs (Page has checked the rest)."""
    (title,) = page.select("title")
    said = (title.text or "").split("·")[0].strip()
    assert said, "a page has a title of its own"
    assert page.response.headers.get("Cache-Control") == "no-store", "the browser would keep this page"
    assert page.select("html")[0].get("lang") == "en"
    assert len(page.select("main")) == 1


def test_every_page_is_listed(app: APIFlask) -> None:
    assert unlisted(app) == [], "add them to tests/support/pages.py"


def test_every_page_is_valid_in_an_empty_installation(admin: Browser) -> None:
    assert faults_of(admin, list(paths_without_things())) == {}


def test_every_page_is_valid_with_one_of_everything(admin: Browser, things: Things) -> None:
    assert faults_of(admin, list(paths(things))) == {}


def test_every_page_is_valid_while_a_backup_and_a_restore_run(app: APIFlask, admin: Browser, things: Things) -> None:
    running = make_running(app)
    own_pages = [f"/backups/{running['running']}", f"/restores/{running['restore_running']}"]
    assert faults_of(admin, [*own_pages, "/", "/backups/", "/restores/", "/schedules/", f"/backups/{things['own']}"]) == {}
    for path in own_pages:
        assert admin.get(f"{path}/partial", fragment=True).select("progress")


def test_pages_for_strangers_are_valid(visitor: Browser, things: Things) -> None:
    assert faults_of(visitor, list(paths(things, PUBLIC_PAGES))) == {}


def test_error_pages_are_valid(admin: Browser) -> None:
    page = admin.get(NOT_FOUND, status=404)
    assert page.select("title")[0].text
    assert len(page.select("main")) == 1
