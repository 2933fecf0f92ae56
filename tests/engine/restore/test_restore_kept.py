"""States that are kept for undos: no more than a few, and the preview says what a restore drops."""

from __future__ import annotations

from pathlib import Path

from app.engine.restore.places.journal import all_in as list_journals
from app.engine.restore.preview.preview import preview
from app.engine.restore.restore import FileRestore, restore_from_file
from app.engine.restore.swap import MOST_KEPT, undo
from tests.support.archives import KEY
from tests.support.restoring import Pristine
from tests.support.small_pair import change


def test_the_oldest_state_is_dropped_when_there_are_too_many_as_the_preview_says(small: Pristine, tmp_path: Path) -> None:
    with small.live(tmp_path) as live:
        change(live)
        state_dir = live.documents.parent / f".{live.documents.name}_restores"
        kept = []
        for number in range(MOST_KEPT + 1):
            said = " ".join(preview(live.request(small.archive, state_dir=state_dir)).warnings)
            assert ("can't be undone any more" in said) is (number == MOST_KEPT)
            if number == MOST_KEPT:
                assert str(kept[0]) in said
            restore_from_file(FileRestore(small.archive, live.url, live.documents, KEY))
            now = [journal.restore_id for journal in list_journals(state_dir)]
            kept += [restore_id for restore_id in now if restore_id not in kept]
            assert now == kept[-MOST_KEPT:]
        remains = live.remains()
        assert len([name for name in remains if name.startswith("database ")]) == MOST_KEPT
        assert len([name for name in remains if "_restore_" in name and name.startswith("folder ")]) == MOST_KEPT
        undo(state_dir, kept[-1], live.source())
