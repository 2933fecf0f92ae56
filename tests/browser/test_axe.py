"""axe-core finds nothing serious on any page, in either theme, on a phone and on a desk."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from playwright.sync_api import Page

from tests.browser.story import Story
from tests.support.accessible import THEMES, WIDTHS, faults, look
from tests.support.chromium import Open
from tests.support.pages import NOT_FOUND, PAGES, PUBLIC_PAGES, paths
from tests.support.small_stack import SmallStack
from tests.support.things import Things

QUICK_LOOKS = (("light", 1440), ("dark", 390))
ALL_LOOKS = tuple((theme, width) for theme in THEMES for width in WIDTHS)


def faults_on(page: Page, addresses: Iterable[str], looks: Iterable[tuple[str, int]]) -> dict[str, list[str]]:
    """Return the problems of each path in each (theme, width)."""
    wrong = {}
    for path in addresses:
        for theme, width in looks:
            look(page, path, theme, width)
            if found := faults(page):
                wrong[f"{path} {theme} {width}"] = found
    return wrong


def told(wrong: dict[str, list[str]]) -> str:
    """Format problems as lines."""
    return "\n".join(f"{place}: {line}" for place, lines in wrong.items() for line in lines)


def test_pages_for_strangers_are_accessible(open_page: Open, things: Things) -> None:
    page = open_page()
    wrong = faults_on(page, paths(things, PUBLIC_PAGES), ALL_LOOKS)
    assert not wrong, told(wrong)


def test_each_page_is_accessible(open_page: Open, stack: SmallStack, things: Things) -> None:
    page = open_page()
    Story(page, stack).log_in()
    first = [templates[0].format_map(things) for templates in PAGES.values()]
    wrong = faults_on(page, [*first, NOT_FOUND], QUICK_LOOKS)
    assert not wrong, told(wrong)


@pytest.mark.heavy
def test_each_page_is_accessible_with_all_kinds_of_data_in_every_look(
    open_page: Open, stack: SmallStack, things: Things
) -> None:
    page = open_page()
    Story(page, stack).log_in()
    wrong = faults_on(page, paths(things), ALL_LOOKS)
    assert not wrong, told(wrong)
