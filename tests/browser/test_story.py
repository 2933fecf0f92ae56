"""The whole story on the real stack, from the first login to the last logout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.story import Story
from tests.support.chromium import DESKTOP, PHONE, Open
from tests.support.small_stack import SmallStack


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_an_admin_backs_up_restores_undoes_schedules_and_leaves(
    open_page: Open, stack: SmallStack, tmp_path: Path, device: dict[str, Any]
) -> None:
    story = Story(open_page(**device), stack, touch="has_touch" in device)
    story.log_in()
    backup_id = story.back_up()
    story.download(backup_id, tmp_path)

    old, word = stack.state(), "touched" if story.touch else "typed"
    stack.change(word)
    new = stack.state()
    assert old != new
    story.preview(backup_id, word)
    assert stack.state() == new
    story.restore()
    assert stack.state() == old
    story.undo()
    assert stack.state() == new

    story.make_schedule()
    story.try_quotas()
    story.send_test_mail()
    story.log_out()
