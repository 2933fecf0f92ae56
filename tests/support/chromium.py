"""A real browser on the real stack: the system's Chromium, and pages in it that are watched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.small_stack import SmallStack
from tests.support.things import Things, make_things
from tests.support.watch import Watch

REQUIRED = "MVP_BROWSER_REQUIRED"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DESKTOP: dict[str, Any] = {"viewport": {"width": 1440, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
ACTION_SECONDS = 15
FLAGS = [
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # Nothing leaves this machine, whatever the browser itself may want.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]

Open = Callable[..., Page]


def chromium_path() -> str:
    """Return the system's Chromium. Skip the test where there is none, or fail it where there must be one."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None and os.environ.get(REQUIRED):
        pytest.fail(f"{REQUIRED} is set, but there is no {', '.join(NAMES[:-1])} or {NAMES[-1]} on PATH.")
    if found is None:
        pytest.skip(f"No Chromium on PATH ({', '.join(NAMES)}): install one to run the browser tests.")
    return found


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    path = chromium_path()
    flags = FLAGS + (["--no-sandbox"] if os.geteuid() == 0 else [])
    expect.set_options(timeout=ACTION_SECONDS * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="session")
def stack(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallStack]:
    """The whole system, running; the tests of one process share it."""
    folder = tmp_path_factory.mktemp("stack")
    # PostgreSQL runs as a user of its own, who has to pass.
    folder.chmod(0o711)
    stack = SmallStack(folder)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture(scope="session")
def things(stack: SmallStack) -> Things:
    """One of everything in the running stack; the ids by name."""
    with stack.app() as app:
        return make_things(app)


@pytest.fixture
def open_page(chromium: Browser, stack: SmallStack, tmp_path: Path) -> Iterator[Open]:
    """A function that opens a page in a browser context of its own; what its Watch noted fails the test."""
    watches: list[Watch] = []
    with ExitStack() as contexts:

        def make(**options: Any) -> Page:
            context = chromium.new_context(base_url=stack.url, accept_downloads=True, **(DESKTOP | options))
            contexts.callback(context.close)
            context.set_default_timeout(ACTION_SECONDS * 1000)
            watches.append(Watch(context, stack.url))
            return context.new_page()

        yield make
    for watch in watches:
        watch.check(stack.web_log())
