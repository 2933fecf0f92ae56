"""Read an untrusted tar stream: header by header, within limits, and nothing trusted before it is checked.

Never tarfile's own extraction, whose filters were bypassed repeatedly. Only its header parsing is used. Formats: ustar,
GNU long names, pax (POSIX.1-2001). Sparse entries, devices, hard links and anything else that a folder of documents does not
need are refused.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..errors import RestoreError
from ..source.documents import LATEST_NS
from .tar_headers import BLOCK

LONGEST_EXTENSION = 64 * 1024
"""The most bytes in a long name or a pax header."""

MOST_RECORDS, RECORDS_PER_ENTRY = 100_000, 20
"""The most records in an archive's pax headers: a base, plus an allowance per entry."""

_WANTED = {b"path", b"linkpath", b"size", b"mtime", b"uid", b"gid"}
_SECONDS = re.compile(r"(-?)([0-9]{1,18})(?:\.([0-9]{1,50}))?", re.ASCII)
MOST_EXTENSIONS = 16
"""The most headers before an entry's own."""

_PLAIN = {tarfile.REGTYPE: "file", tarfile.AREGTYPE: "file", tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "symlink"}
_REFUSED = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
    tarfile.CONTTYPE: "a contiguous file",
}


@dataclass(frozen=True)
class Entry:
    """An entry's header. `name` is as written, with surrogate escapes; size in bytes, mtime in nanoseconds."""

    name: str
    kind: str
    size: int
    mode: int
    mtime_ns: int
    uid: int
    gid: int
    target: str


class TarStream:
    """Iterate over the entries of a stream, given a function that returns exactly n bytes, or fewer at the end.

    Between two entries, `content` yields the current one's bytes; unread ones are skipped.
    """

    def __init__(self, read: Callable[[int], bytes], chunk: int = 1024 * 1024) -> None:
        self._read = read
        self._chunk = chunk
        self._left = 0
        self._padding = 0
        self._at = 0
        self._records_left = MOST_RECORDS
        self.entry_at = 0
        """The current entry's own header block, in bytes from the stream's start."""

    def entries(self) -> Iterator[Entry]:
        """Yield each entry. Raise RestoreError at the first one that is refused."""
        pax: dict[str, str] = {}
        long_name = long_link = ""
        extensions = 0
        while True:
            self._pass_over()
            self.entry_at = self._at
            block = self._take(BLOCK)
            # POSIX: two blocks of zeros end an archive.
            if len(block) < BLOCK or (block == bytes(BLOCK) and self._take(BLOCK) != block):
                raise RestoreError("The tar stream ends without its end mark: the archive was cut short.")
            if block == bytes(BLOCK):
                return
            info = _header(block)
            extensions += 1
            if extensions > MOST_EXTENSIONS:
                raise RestoreError("The archive has too many headers for one entry; it was refused.")
            if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                text = self._extension(info.size).rstrip(b"\0").decode("utf-8", "surrogateescape")
                if info.type == tarfile.GNUTYPE_LONGNAME:
                    long_name = text
                else:
                    long_link = text
                continue
            if info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE):
                fields = self._pax_fields(self._extension(info.size))
                if info.type != tarfile.XGLTYPE:
                    pax = fields
                continue
            entry = _entry(info, pax, long_name, long_link)
            pax, long_name, long_link, extensions = {}, "", "", 0
            self._records_left += RECORDS_PER_ENTRY
            self._left, self._padding = entry.size, -entry.size % BLOCK
            yield entry

    def content(self) -> Iterator[bytes]:
        """Yield the current entry's bytes in parts. Raise RestoreError if the stream ends before it."""
        while self._left:
            data = self._take(min(self._chunk, self._left))
            if not data:
                raise RestoreError("The archive was cut short inside a file.")
            self._left -= len(data)
            yield data

    def _pass_over(self) -> None:
        for _ in self.content():
            pass
        if self._padding:
            self._take(self._padding)
            self._padding = 0

    def _extension(self, size: int) -> bytes:
        if not 0 <= size <= LONGEST_EXTENSION:
            raise RestoreError(f"The archive has a name or header of {size} bytes, which no document needs; it was refused.")
        data = self._take(size)
        self._take(-size % BLOCK)
        return data

    def _pax_fields(self, data: bytes) -> dict[str, str]:
        """Parse a pax header's records, "length key=value\\n", and keep those that this reader uses."""
        fields: dict[str, str] = {}
        start = 0
        while start < len(data):
            length = data[start : data.find(b" ", start, start + 8)]
            if not length.isdigit() or not len(length) + 1 < int(length) <= len(data) - start:
                raise RestoreError("The archive's tar stream is damaged (bad pax header).")
            self._records_left -= 1
            if self._records_left < 0:
                raise RestoreError("The archive's pax headers have more records than any program writes; it was refused.")
            record = data[start : start + int(length)]
            start += len(record)
            key, _, value = record[len(length) + 1 :].rstrip(b"\n").partition(b"=")
            if key in _WANTED or key.startswith(b"GNU.sparse"):
                fields[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        return fields

    def _take(self, count: int) -> bytes:
        data = self._read(count)
        self._at += len(data)
        return data


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise RestoreError(f"The archive's tar stream is damaged ({error}).") from error


def _nanoseconds(seconds: str) -> int:
    """Convert seconds since the epoch, as pax writes them, to exact nanoseconds. Raise ValueError."""
    match = _SECONDS.fullmatch(seconds)
    if match is None:
        raise ValueError(seconds)
    whole = int(match[2]) * 10**9 + int((match[3] or "")[:9].ljust(9, "0"))
    return -whole if match[1] else whole


def _entry(info: tarfile.TarInfo, pax: dict[str, str], long_name: str, long_link: str) -> Entry:
    name = pax.get("path") or long_name or info.name
    if any(key.startswith("GNU.sparse") for key in pax):
        raise RestoreError(f"The archive holds a sparse file ({name[:200]!r}); pack it again without --sparse.")
    kind = _PLAIN.get(info.type)
    if kind is None:
        what = _REFUSED.get(info.type, "an entry of an unknown type")
        raise RestoreError(f"The archive holds {what} ({name[:200]!r}), which no backup needs; it was refused.")
    try:
        size = int(pax.get("size", info.size)) if kind == "file" else 0
        mtime_ns = _nanoseconds(pax["mtime"]) if "mtime" in pax else int(info.mtime) * 10**9
        uid, gid = int(pax.get("uid", info.uid)), int(pax.get("gid", info.gid))
    except (ValueError, OverflowError) as error:
        raise RestoreError("The archive's tar stream is damaged (bad number in a pax header).") from error
    if size < 0 or uid < 0 or gid < 0 or uid >= 2**32 - 1 or gid >= 2**32 - 1:
        raise RestoreError(f"The archive's entry {name[:200]!r} has an impossible size or owner; it was refused.")
    mtime_ns = min(max(mtime_ns, -LATEST_NS), LATEST_NS)
    return Entry(name, kind, size, info.mode & 0o777, mtime_ns, uid, gid, pax.get("linkpath") or long_link or info.linkname)
