"""Uploading by script: what is wrong is told at the field, and the right file leads to its page."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.story import Story
from tests.support.chromium import Open
from tests.support.restore_pages import foreign_archive
from tests.support.small_stack import SmallStack


def test_a_refused_file_is_told_at_its_field_and_another_one_is_taken(
    open_page: Open, stack: SmallStack, tmp_path: Path
) -> None:
    page = open_page()
    story = Story(page, stack)
    story.log_in()
    page.goto("/backups/upload")
    field = page.get_by_label("Archive (.tar.gz)")
    (tmp_path / "wrong.tar.gz").write_bytes(b"")
    field.set_input_files(tmp_path / "wrong.tar.gz")
    story.press(story.button("Upload"))
    expect(page.get_by_role("alert")).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    assert page.get_by_role("alert").inner_text().strip()

    (tmp_path / "own.tar.gz").write_bytes(foreign_archive(tmp_path))
    field.set_input_files(tmp_path / "own.tar.gz")
    story.press(story.button("Upload"))
    expect(page).to_have_url(re.compile("/backups/[0-9a-f]{8}-"))
    expect(page.get_by_text("Uploaded", exact=True).first).to_be_visible()
    expect(page.get_by_text("Completed", exact=True).first).to_be_visible(timeout=30_000)
