"""gzip members, the building blocks of an archive. RFC 1952 (gzip), RFC 1951 (deflate).

A .gz file may be a chain of members, and every reader unpacks the chain as one stream. Here each member can be found
and unpacked on its own. A member holds runs of bytes that are either deflated (ISA-L level 1: on dumps and CSV a ratio
between those of zlib's levels 4 and 5 at seven to eleven times their speed; level 3 packs 3 % tighter and takes a sixth
longer) or stored as they are, where deflating would not pay off.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from isal import isal_zlib

from ..storage.interface import Buffer

LEVEL = 1
HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
FINAL_EMPTY_BLOCK = b"\x03\x00"
STORED_LIMIT = 65535
PROBE_BYTES = 8 * 1024
WORTH_DEFLATING = 0.95
"""Deflate data that shrinks below this share of its size in the probe."""

PACKED = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF8",
    b"PK\x03\x04",  # ZIP, and the office files that are ZIPs
    b"\x1f\x8b\x08",  # gzip
    b"BZh",
    b"\xfd7zXZ\x00",
    b"\x28\xb5\x2f\xfd",  # Zstandard
    b"7z\xbc\xaf\x27\x1c",
    b"Rar!\x1a\x07",
    b"OggS",
    b"ID3",  # MP3
    b"\x1aE\xdf\xa3",  # Matroska, WebM
)
"""The first bytes of files that are already compressed."""

FOOTER_MAGIC = b"MV"
_FOOTER_FIELDS = struct.Struct("<QQ")
FOOTER_SIZE = 10 + 2 + 4 + _FOOTER_FIELDS.size + 2 + 8


def is_worth_deflating(data: Buffer) -> bool:
    """Return whether to deflate a file or a piece of one: not if it begins like a compressed file; otherwise if a probe
    from its middle is plain text or shrinks enough."""
    view = memoryview(data)
    head = bytes(view[:12])
    if head.startswith(PACKED) or head[4:8] == b"ftyp" or (head[:4], head[8:]) == (b"RIFF", b"WEBP"):
        return False
    start = max(0, (len(view) - PROBE_BYTES) // 2)
    probe = bytes(view[start : start + PROBE_BYTES])
    if len(probe) < 64 or probe.isascii():  # ASCII never needs its eighth bit
        return True
    return len(isal_zlib.compress(probe, 1)) < WORTH_DEFLATING * len(probe)


def stored_blocks(parts: Iterable[Buffer]) -> list[Buffer]:
    """Return buffers as non-final stored blocks of deflate, without copying the bytes."""
    blocks: list[Buffer] = []
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), STORED_LIMIT):
            piece = view[start : start + STORED_LIMIT]
            blocks.append(struct.pack("<BHH", 0, len(piece), len(piece) ^ 0xFFFF))
            blocks.append(piece)
    return blocks


def member(runs: Iterable[tuple[bool, Sequence[Buffer]]]) -> list[Buffer]:
    """Build one gzip member from runs of (deflate it?, buffers), as a list of buffers to write in order."""
    parts: list[Buffer] = [HEADER]
    checksum = size = 0
    for deflated, buffers in runs:
        for buffer in buffers:
            checksum = isal_zlib.crc32(buffer, checksum)
            size += len(buffer)
        if deflated:
            # A fresh compressor for each run: its window must not reach back over stored bytes that it has not seen.
            compressor = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, -15, 9)
            parts += [compressor.compress(buffer) for buffer in buffers]
            parts.append(compressor.flush(isal_zlib.Z_SYNC_FLUSH))
        else:
            parts += stored_blocks(buffers)
    parts.append(FINAL_EMPTY_BLOCK + struct.pack("<II", checksum, size & 0xFFFFFFFF))
    return parts


def stored_member(*buffers: Buffer) -> list[Buffer]:
    """Build one gzip member that stores the buffers uncompressed."""
    return member([(False, buffers)])


def deflated_member(*buffers: Buffer) -> list[Buffer]:
    """Build one gzip member with the buffers deflated."""
    return member([(True, buffers)])


def footer(manifest_offset: int, manifest_length: int) -> bytes:
    """Build the empty member that ends an archive and locates the manifest's member.

    The offset and the length, both in bytes, are in its FEXTRA field (RFC 1952, 2.3.1.1) under the id "MV".
    """
    fields = _FOOTER_FIELDS.pack(manifest_offset, manifest_length)
    extra = FOOTER_MAGIC + struct.pack("<H", len(fields)) + fields
    return b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", len(extra)) + extra + FINAL_EMPTY_BLOCK + bytes(8)


def parse_footer(data: bytes) -> tuple[int, int] | None:
    """Parse the last FOOTER_SIZE bytes of a file into the manifest's (offset, length); None if they are not a footer.

    Every byte is compared with what `footer` would have written.
    """
    if len(data) != FOOTER_SIZE:
        return None
    offset, length = _FOOTER_FIELDS.unpack_from(data, 16)
    return (offset, length) if footer(offset, length) == data else None
