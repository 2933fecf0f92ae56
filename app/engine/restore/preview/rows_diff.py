"""A table's rows now and in a backup: which of them a restore would bring back, change and take away.

Both sides are text in the format of COPY, which has one line for each row; lines that are equal cancel each other out
wherever they stand. What is left is distinguished by the primary key.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

import psycopg

from ...archive.manifest import Segment
from ...archive.reader import ArchiveReader
from ...errors import ArchiveError
from ...progress import Meter
from ...source.documents import shown
from ...source.names import as_dumped, quoted, readable
from ...source.postgres import Connection

BATCH = 20_000
BATCH_BYTES = 4 * 1024**2
"""At most so many rows, and bytes but for the last row, of each side are compared at once."""

MOST_PENDING = 100_000
"""Rows that may differ, or stand elsewhere, before a table counts as too different: they are kept in memory."""

LONGEST_ROW = 64 * 1024**2
"""In bytes: far more than a row can have in a table none of whose pieces begins inside one."""

EXAMPLES = 10
LONGEST_EXAMPLE = 80


@dataclass(frozen=True)
class RowsDiff:
    """A table's rows. `added`: the restore brings them back; `changed`: they have the same primary key and other values;
    `lost`: the restore takes them away. `examples` has some of their primary keys, whose columns are `key`; in a table
    without one a changed row is one that is lost and one that is added."""

    added: int
    changed: int
    lost: int
    key: tuple[str, ...] = ()
    examples: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_same(self) -> bool:
        """Whether every row is the same now and in the backup."""
        return not (self.added or self.changed or self.lost)


@dataclass(frozen=True)
class ComparedTable:
    """A table that has the same columns now and in the backup, in the backup's order; `segments` are its rows there.

    Names are as in the dump, whose encoding is that of the live database, too.
    """

    schema: str
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    encoding: str
    segments: Sequence[Segment]


def compare_rows(
    connection: Connection, table: ComparedTable, reader: ArchiveReader, until: float, meter: Meter
) -> RowsDiff | None:
    """Return how the rows of a table differ, over an autocommit connection that writes values as pg_dump does.

    None if that is not known: it took longer than `until` (of time.monotonic), more than MOST_PENDING rows differ, or the
    server refuses to read it. Raise ArchiveError if the archive is damaged.
    """
    if any(segment.continued for segment in table.segments):
        return None  # rows of many megabytes: one of them now might not fit into memory
    columns = b" (" + b", ".join(map(quoted, table.columns)) + b")" if table.columns else b""
    statement = b"COPY " + quoted(table.schema, table.name) + columns + b" TO STDOUT"
    found = _Difference(tuple(table.columns.index(column) for column in table.key))
    backup = _lines(chain.from_iterable(map(reader.segment_text, table.segments)))
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            now = (bytes(row[:-1]) for row in copy)
            while True:
                then_rows = _some(backup, BATCH)
                now_rows = _some(now, len(then_rows) or BATCH)
                if not then_rows and not now_rows:
                    break
                if then_rows != now_rows:
                    found.take(then_rows, now_rows)
                meter.tick()
                if time.monotonic() > until or found.pending > MOST_PENDING:
                    raise _Enough
    except (_Enough, psycopg.Error):
        return None
    return found.result(tuple(readable(column, table.encoding) for column in table.key), table.encoding)


class _Enough(Exception):
    """The comparison was abandoned."""


class _Difference:
    """Cancels out what is in the backup against what there is now. `key`: the places of the key's columns in a row."""

    def __init__(self, key: tuple[int, ...]) -> None:
        self._key = key
        self._counts: dict[int, int] = {}
        """By a row's hash (of 64 bits, keyed anew for each process), how often more it is in the backup than now."""
        self._keys: dict[int, bytes] = {}

    @property
    def pending(self) -> int:
        """How many different rows have no equal on the other side yet."""
        return len(self._counts)

    def take(self, backup: list[bytes], now: list[bytes]) -> None:
        """Take the next rows of both sides; equal ones cancel each other out."""
        counts = self._counts
        for row in backup:
            counts[hash(row)] = counts.get(hash(row), 0) + 1
        for row in now:
            counts[hash(row)] = counts.get(hash(row), 0) - 1
        self._counts = {number: count for number, count in counts.items() if count}
        for row in chain(backup, now):
            if hash(row) in self._counts:
                self._keys[hash(row)] = self._key_of(row)
        self._keys = {number: self._keys[number] for number in self._counts}

    def _key_of(self, row: bytes) -> bytes:
        fields = row.split(b"\t") if self._key else []
        return b"\t".join(fields[place] for place in self._key)

    def result(self, key: tuple[str, ...], encoding: str) -> RowsDiff:
        """Return the difference, when all rows were taken. `key`: the names of the key's columns."""
        backup = {self._keys[number] for number, count in self._counts.items() if count > 0}
        now = {self._keys[number] for number, count in self._counts.items() if count < 0}
        if len(backup) + len(now) < sum(map(abs, self._counts.values())):  # no key at all, or none yet in the backup
            added = sum(count for count in self._counts.values() if count > 0)
            return RowsDiff(added, 0, added - sum(self._counts.values()))
        groups = {"added": backup - now, "changed": backup & now, "lost": now - backup}
        examples = {kind: _examples(keys, encoding) for kind, keys in groups.items() if keys}
        return RowsDiff(len(groups["added"]), len(groups["changed"]), len(groups["lost"]), key, examples)


def _lines(texts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the rows of a text in parts, without their line ends."""
    rest = b""
    for text in texts:
        lines = text.split(b"\n")
        lines[0] = rest + lines[0]
        rest = lines.pop()
        if len(rest) > LONGEST_ROW:
            raise ArchiveError("A row in the archive is longer than its manifest says; the archive is damaged or forged.")
        yield from lines


def _some(rows: Iterator[bytes], most: int) -> list[bytes]:
    """Return the next rows, at most so many."""
    found, size = [], 0
    for row in rows:
        found.append(row)
        size += len(row)
        if len(found) >= most or size >= BATCH_BYTES:
            break
    return found


def _examples(keys: Iterable[bytes], encoding: str) -> list[str]:
    """Return the first keys for people, numbers in the order of their size. `keys` are as COPY writes them."""
    first = sorted(keys, key=lambda key: (len(key), key))[:EXAMPLES]
    texts = [shown(readable(as_dumped(key), encoding).replace("\t", ", ")) for key in first]
    return [text if len(text) <= LONGEST_EXAMPLE else f"{text[: LONGEST_EXAMPLE - 1]}…" for text in texts]
