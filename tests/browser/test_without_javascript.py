"""What has to work when scripts are off, or did not arrive."""

from __future__ import annotations

from pathlib import Path

from tests.browser.story import Story
from tests.support.chromium import Open
from tests.support.small_stack import SmallStack


def test_without_scripts_an_admin_backs_up_restores_and_leaves(open_page: Open, stack: SmallStack, tmp_path: Path) -> None:
    story = Story(open_page(java_script_enabled=False), stack, scripts=False)
    story.log_in()
    backup_id = story.back_up()
    old = stack.state()
    stack.change("plain")
    story.preview(backup_id, "plain")
    story.restore()
    assert stack.state() == old
    story.log_out()
