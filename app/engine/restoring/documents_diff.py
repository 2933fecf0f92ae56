"""The documents now and in a backup: what a restore would bring back, change and take away."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ..files import documents
from ..files.documents import Skipped, shown
from ..progress import Meter

EXAMPLES = 100
QUICK_WALK_SECONDS = 0.4

FileFacts = tuple[int, int]
"""A file's size in bytes and its mtime in nanoseconds."""


@dataclass(frozen=True)
class DocumentsDiff:
    """The documents now and in the backup. `added`: the restore brings it back; `lost`: the restore takes it away."""

    files_now: int
    bytes_now: int
    files_backup: int
    bytes_backup: int
    added: int | None = None
    changed: int | None = None
    lost: int | None = None
    examples: dict[str, list[str]] = field(default_factory=dict)
    approximate: bool = True


def compare(root: Path, backup: Iterable[tuple[str, FileFacts]], meter: Meter) -> DocumentsDiff:
    """Given the live folder and the backup's files, compare every one by size and time."""
    live: dict[str, FileFacts] = {}
    bytes_now = 0
    for found in documents.walk(root):
        if not isinstance(found, Skipped) and found.kind == "file":
            live[found.path] = (found.size, found.mtime_ns)
            bytes_now += found.size
        meter.tick()
    files_now, files, size, added, changed = len(live), 0, 0, 0, 0
    examples: dict[str, list[str]] = {"added": [], "changed": [], "lost": []}
    for path, facts in backup:
        files, size = files + 1, size + facts[0]
        present = live.pop(path, None)
        kind = "added" if present is None else "changed" if not _same(present, facts) else ""
        added, changed = added + (kind == "added"), changed + (kind == "changed")
        if kind and len(examples[kind]) < EXAMPLES:
            examples[kind].append(shown(path))
    examples["lost"] = [shown(path) for path in sorted(live)[:EXAMPLES]]
    return DocumentsDiff(files_now, bytes_now, files, size, added, changed, len(live), examples, approximate=False)


def _same(now: tuple[int, int], backup: tuple[int, int]) -> bool:
    """Given (size, mtime) pairs, return whether they mean the same file; plain tar keeps whole seconds only."""
    return now[0] == backup[0] and (
        now[1] == backup[1] or (backup[1] % 10**9 == 0 and now[1] // 10**9 == backup[1] // 10**9)
    )


def quick_walk(root: Path) -> tuple[int, int]:
    """Given the live folder, return the files and bytes that were found in it within a moment."""
    files = size = 0
    until = time.monotonic() + QUICK_WALK_SECONDS
    for found in documents.walk(root):
        if not isinstance(found, Skipped) and found.kind == "file":
            files, size = files + 1, size + found.size
        if time.monotonic() > until:
            break
    return files, size
