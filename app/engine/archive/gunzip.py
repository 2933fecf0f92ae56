"""Unpack a chain of gzip members in time linear in its bytes, whatever the size of its members."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import cast

from isal import isal_zlib

GZIP = 31
IsalError = cast("type[Exception]", isal_zlib.error)
PART_BYTES = 1024 * 1024
"""The most bytes in a part of the content."""

JOINED_BYTES = 64 * 1024
"""The fewest bytes in a part, except the last: parts are joined, since a member may hold a single byte."""

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
        """The position in the content at which the member of the last part began."""

    def parts(self) -> Iterator[bytes]:
        """Yield the content, at most PART_BYTES at once. Raise IsalError if it is damaged; its end may be missing."""
        for chunk in self._source:
            self.packed += len(chunk)
            view, position = memoryview(chunk), 0
            while position < len(view):
                if self.is_between_members and self._may_be_padded and _is_padding(chunk, position):
                    break
                # The unpacker copies what it leaves of a slice each time, so pass no more than it is likely to use.
                content, used = self._unpack(view[position : position + self._slice])
                position += used
                if content:
                    yield content
        while not self.is_between_members:  # the last bytes may have been read already, without space for their content
            content, _ = self._unpack(memoryview(b""))
            if not content:
                return
            yield content

    def _unpack(self, packed: memoryview) -> tuple[bytes, int]:
        """Return some content, and the number of input bytes consumed."""
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
    """Yield the same bytes in parts of JOINED_BYTES or more, except the last and those before a large one. No part exceeds
    PART_BYTES if none did before."""
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
