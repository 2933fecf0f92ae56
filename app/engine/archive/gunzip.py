"""Unpacking a chain of gzip members in time that is linear in its bytes, however small or large its members are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import cast

from isal import isal_zlib

GZIP = 31
IsalError = cast("type[Exception]", isal_zlib.error)
PART_BYTES = 1024 * 1024
"""No part of the content has more bytes than this."""

JOINED_BYTES = 64 * 1024
"""The fewest bytes in a part passed on, except the last: parts are joined because a member may hold a single byte."""

FIRST_SLICE = 16 * 1024
_ZEROS = re.compile(rb"\0*")


class Gunzip:
    """Unpack bytes that arrive in parts. Zeros that pad a member are skipped if `may_be_padded`."""

    def __init__(self, source: Iterable[bytes], may_be_padded: bool = False) -> None:
        self._source = source
        self._may_be_padded = may_be_padded
        self._unpacker = isal_zlib.decompressobj(GZIP)
        self._slice = FIRST_SLICE
        self.is_between_members = True
        self.packed = 0
        self.unpacked = 0
        self.members = 0
        self.member_at = 0
        """Where in the content the member began that the last part came from."""

    def parts(self) -> Iterator[bytes]:
        """Yield the content, at most PART_BYTES at once. Raise IsalError if it is damaged; its end may be missing."""
        for chunk in self._source:
            self.packed += len(chunk)
            view, position = memoryview(chunk), 0
            while position < len(view):
                if self.is_between_members and self._may_be_padded and _is_padding(chunk, position):
                    break
                # What the unpacker leaves of a slice is copied each time, so it gets no more than it is likely to use.
                content, used = self._unpack(view[position : position + self._slice])
                position += used
                if content:
                    yield content
        while not self.is_between_members:  # the last bytes may be read already, with no room for what they unpack to
            content, _ = self._unpack(memoryview(b""))
            if not content:
                return
            yield content

    def _unpack(self, packed: memoryview) -> tuple[bytes, int]:
        """Return some content, and how many bytes were used for it."""
        unpacker = self._unpacker
        if self.is_between_members:
            self.members += 1
            self.member_at = self.unpacked
            self.is_between_members = False
        content: bytes = unpacker.decompress(packed, PART_BYTES)
        self.unpacked += len(content)
        if unpacker.eof:
            used = len(packed) - len(unpacker.unused_data)
            self._unpacker, self._slice, self.is_between_members = isal_zlib.decompressobj(GZIP), FIRST_SLICE, True
        else:
            used = len(packed) - len(unpacker.unconsumed_tail)
            self._slice = max(FIRST_SLICE, min(8 * used, PART_BYTES))
        return content, used


def _is_padding(chunk: bytes, position: int) -> bool:
    zeros = _ZEROS.match(chunk, position)
    return zeros is not None and zeros.end() == len(chunk)


def joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in parts of JOINED_BYTES or more, but for the last one and those in front of a large one.
    None has more than PART_BYTES if none had."""
    small: list[bytes] = []
    size = 0
    for part in parts:
        if small and size + len(part) > PART_BYTES:
            yield b"".join(small)
            small, size = [], 0
        small.append(part)
        size += len(part)
        if size >= JOINED_BYTES:
            yield b"".join(small)
            small, size = [], 0
    if small:
        yield b"".join(small)
