"""A page that was left open tells the present state to whoever comes back to it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.story import Story
from tests.support.chromium import Open
from tests.support.small_stack import SmallStack

COME_BACK = "() => document.dispatchEvent(new Event('visibilitychange'))"


@pytest.mark.parametrize("path", ["/", "/backups"])
def test_coming_back_renews_what_has_changed(open_page: Open, stack: SmallStack, path: str) -> None:
    page = open_page()
    story = Story(page, stack)
    story.log_in()
    stack.wait_until_idle()
    page.clock.install()
    page.goto(path)
    other = page.context.new_page()
    other.goto("/backups")
    other.get_by_role("main").get_by_role("button", name="Back up now").click()
    expect(other.get_by_role("status").first).to_be_visible()
    stack.wait_until_idle()
    ((newest,),) = stack.metadata("SELECT id FROM backup_history ORDER BY created_at DESC LIMIT 1")
    link = page.locator(f"a[href*='{newest}']").first

    page.evaluate(COME_BACK)
    expect(link).to_have_count(0)
    page.clock.fast_forward(60_000)
    page.evaluate(COME_BACK)
    expect(link).to_be_visible()
