"""/api/docs in a real browser: everything comes from us, the policy holds, and an admin can try the API out."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.story import Story
from tests.support.accessible import THEMES, WIDTHS, faults
from tests.support.chromium import Open
from tests.support.small_stack import SmallStack

DOCS = "/api/docs"


@pytest.fixture
def docs(open_page: Open, stack: SmallStack) -> Page:
    """The page, opened by an admin. At its end the Watch fails the test for anything remote or against the policy."""
    page = open_page()
    Story(page, stack).log_in()
    page.goto(DOCS)
    expect(page.locator("#operations-Backups-list_backups")).to_be_visible()
    return page


def tried(page: Page, operation: str, status: str) -> None:
    """Try an operation out and see the status on the page."""
    block = page.locator(f"#operations-Backups-{operation}")
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    expect(block.locator(".live-responses-table .response-col_status").last).to_have_text(status)


def test_an_admin_reads_and_writes_from_the_page_without_a_token(docs: Page, stack: SmallStack) -> None:
    before = stack.metadata("SELECT count(*) FROM backup_history")[0][0]
    tried(docs, "list_backups", "200")
    tried(docs, "create_backup", "202")
    assert stack.metadata("SELECT count(*) FROM backup_history")[0][0] == before + 1


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_accessible(docs: Page, theme: str, width: int) -> None:
    docs.emulate_media(color_scheme=theme, reduced_motion="reduce")  # type: ignore[arg-type]
    docs.set_viewport_size({"width": width, "height": 900})
    docs.reload()
    expect(docs.locator("#operations-Backups-list_backups")).to_be_visible()
    docs.locator("#operations-Backups-create_backup .opblock-summary-control").click()
    expect(docs.locator("#operations-Backups-create_backup .responses-wrapper")).to_be_visible()
    found = faults(docs)
    assert not found, "\n".join(found)
