"""The documents now and in a backup: what a restore would bring back, change and take away."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ...progress import Meter
from ...source import documents
from ...source.documents import Skipped, shown

EXAMPLES = 100
QUICK_WALK_SECONDS = 0.4

TIME_BITS = 95
"""Of a file's size and time in one number, as there may be very many: more than any file system has nanoseconds for."""

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


class Comparison:
    """The live folder against a backup's files, which are taken one by one: none of their paths is kept but a few examples,
    and of the live ones only hashes (of 64 bits, keyed anew for each process)."""

    def __init__(self, root: Path, meter: Meter) -> None:
        self._root = root
        self._meter = meter
        self._live: dict[int, int] = {}
        self._files_now = self._bytes_now = 0
        self._files = self._bytes = 0
        self._counts = {"added": 0, "changed": 0}
        self._examples: dict[str, list[str]] = {"added": [], "changed": [], "lost": []}
        for found in self._walk():
            self._live[hash(found.path)] = _packed((found.size, found.mtime_ns))
            self._files_now += 1
            self._bytes_now += found.size

    def _walk(self) -> Iterator[documents.Document]:
        for found in documents.walk(self._root) if self._root.is_dir() else ():
            if not isinstance(found, Skipped) and found.kind == "file":
                yield found
            self._meter.tick()

    def take(self, path: str, facts: FileFacts) -> None:
        """Compare the backup's next file by size and time."""
        self._files, self._bytes = self._files + 1, self._bytes + facts[0]
        present = self._live.pop(hash(path), None)
        if present is None:
            kind = "added"
        elif _same(_unpacked(present), facts):
            return
        else:
            kind = "changed"
        self._counts[kind] += 1
        if len(self._examples[kind]) < EXAMPLES:
            self._examples[kind].append(shown(path))

    def result(self) -> DocumentsDiff:
        """Return the differences, when all files of the backup were taken."""
        lost = self._examples["lost"]
        for found in self._walk() if self._live else ():
            if hash(found.path) in self._live:
                lost.append(shown(found.path))
                if len(lost) == min(EXAMPLES, len(self._live)):
                    break
        return DocumentsDiff(
            self._files_now,
            self._bytes_now,
            self._files,
            self._bytes,
            **self._counts,
            lost=len(self._live),
            examples=self._examples,
            approximate=False,
        )


def _packed(facts: FileFacts) -> int:
    return facts[0] << TIME_BITS | (facts[1] + (1 << TIME_BITS - 1))


def _unpacked(number: int) -> FileFacts:
    return number >> TIME_BITS, (number & ((1 << TIME_BITS) - 1)) - (1 << TIME_BITS - 1)


def _same(now: tuple[int, int], backup: tuple[int, int]) -> bool:
    """Return whether two (size, mtime) pairs can be the same file; plain tar keeps whole seconds only."""
    return now[0] == backup[0] and (
        now[1] == backup[1] or (backup[1] % 10**9 == 0 and now[1] // 10**9 == backup[1] // 10**9)
    )


def quick_walk(root: Path) -> tuple[int, int]:
    """Return how many files and bytes were found in a folder within QUICK_WALK_SECONDS."""
    files = size = 0
    until = time.monotonic() + QUICK_WALK_SECONDS
    for found in documents.walk(root):
        if not isinstance(found, Skipped) and found.kind == "file":
            files, size = files + 1, size + found.size
        if time.monotonic() > until:
            break
    return files, size
