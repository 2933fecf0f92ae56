"""The harness itself: what it must notice, and what it does without a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.support import chromium as browser_support
from tests.support.small_stack import SmallStack
from tests.support.watch import Watch


def test_faults_of_a_page_are_noticed(chromium: Browser, stack: SmallStack) -> None:
    context = chromium.new_context(base_url=stack.url)
    watch = Watch(context, stack.url)
    page = context.new_page()
    page.goto("/login")
    watch.check("")
    for act, told in (
        ("() => console.error('trouble')", "trouble"),
        ("() => { setTimeout(() => { throw new Error('thrown') }) }", "thrown"),
        ("() => document.body.setAttribute('style', 'color: red')", "CSP stopped inline"),
        ("() => { new Image().src = 'http://192.0.2.1/pixel.png' }", "192.0.2.1"),
        ("() => fetch('/there-is-none').then(() => 1)", "answer 404"),
    ):
        watch.faults.clear()
        page.evaluate(act)
        page.wait_for_timeout(200)
        with pytest.raises(AssertionError, match=told):
            watch.check("")
    context.close()


def test_without_a_browser_tests_are_skipped_but_never_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser_support.shutil, "which", lambda name: None)
    monkeypatch.delenv(browser_support.REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="install one"):
        browser_support.chromium_path()
    monkeypatch.setenv(browser_support.REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match="no chromium"):
        browser_support.chromium_path()
