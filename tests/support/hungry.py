"""Archives that are made to cost whoever reads them as much CPU time and memory as they can; `size` is theirs in bytes."""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from app.engine.archive.gzip_members import deflated_member, footer, stored_member
from app.engine.archive.layout import front, manifest_member
from app.engine.archive.tar_headers import Attributes, header, padding
from tests.support.hostile import HEAD, TAIL, dump_member, dump_of, entry, folder, tar_bytes

EMPTY_MEMBER = b"\x1f\x8b\x08" + bytes(7) + b"\x03" + bytes(9)
TOP = tar_bytes([folder("database/"), dump_member(dump_of()), folder("documents/")], end=False)
END = bytes(1024)
ZERO = "0" * 64


def _packed(parts: Iterable[bytes], path: Path, size: int) -> None:
    """Write parts as one gzip member, until it has `size` bytes or there are no more."""
    with path.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
        for part in parts:
            packed.write(part)
            if file.tell() >= size:
                break


def _again(part: bytes, times: int = 1 << 40) -> Iterable[bytes]:
    block = part * max(1, min(times, 100_000 // len(part)))
    return (block for _ in range(max(1, times * len(part) // len(block))))


def _flat(*parts: bytes | Iterable[bytes]) -> Iterable[bytes]:
    for part in parts:
        if isinstance(part, bytes):
            yield part
        else:
            yield from part


def _dump_of(text: Callable[[], Iterable[bytes]]) -> Callable[[Path, int], None]:
    """Return what writes an archive whose dump is this text."""

    def make(path: Path, size: int) -> None:
        inner = path.with_suffix(".inner")
        _packed(text(), inner, size)
        body = inner.read_bytes()
        inner.unlink()
        info, _ = entry("database/app.sql.gz", size=len(body))
        _packed(
            [tar_bytes([folder("database/")], end=False), info.tobuf(), body, bytes(-len(body) % 512), END], path, 1 << 60
        )

    return make


def _chain(parts: Iterable[bytes], path: Path, size: int) -> None:
    """Write raw bytes until there are `size` of them."""
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
            if file.tell() >= size:
                break


def _tiny_members(text: bytes) -> bytes:
    """Return a gzip member for each byte of the text."""
    return b"".join(gzip.compress(text[n : n + 1], 1, mtime=0) for n in range(len(text)))


@functools.cache
def _one_byte_dump() -> bytes:
    return _tiny_members(HEAD + b"SELECT '") + gzip.compress(b"x", 1, mtime=0) * 100_000


def one_byte_members(path: Path, size: int) -> None:
    """An unfinished token, a member for each of its bytes: both the dump's own members, and those of the archive."""
    body = _one_byte_dump()
    info, _ = entry("database/app.sql.gz", size=len(body))
    raw = tar_bytes([folder("database/")], end=False) + info.tobuf() + body
    _chain(_flat(_tiny_members(raw[:4096]), _again(_tiny_members(raw[4096:8192]))), path, size)


def empty_members(path: Path, size: int) -> None:
    _chain(_flat(gzip.compress(TOP), _again_until(EMPTY_MEMBER, size)), path, size)


def _again_until(part: bytes, size: int) -> Iterable[bytes]:
    return _again(part, size // len(part) + 1)


def long_gzip_name(path: Path, size: int) -> None:
    _chain(_flat(b"\x1f\x8b\x08\x18" + bytes(6), _again_until(b"x", size), b"\0c\0\x03" + bytes(9)), path, size + 100_100)


def gzip_extra_fields(path: Path, size: int) -> None:
    extra = b"\x1f\x8b\x08\x04" + bytes(6) + struct.pack("<H", 65535) + b"x" * 65535 + b"\x03" + bytes(9)
    _chain(_again_until(extra, size), path, size)


def empty_blocks(path: Path, size: int) -> None:
    _chain(_flat(b"\x1f\x8b\x08" + bytes(7), _again_until(b"\0\0\0\xff\xff", size)), path, size)


def many_entries(path: Path, size: int) -> None:
    names = (entry(f"documents/{n:07d}")[0].tobuf() for n in range(size // 20 if size < 10**7 else 700_000))
    _packed([TOP, *[b"".join(chunk) for chunk in zip(*[names] * 1000, strict=False)], END], path, size)


def long_paths(path: Path, size: int) -> None:
    def members() -> Iterable[bytes]:
        yield TOP
        for number in range(200_000):
            yield tar_bytes([entry(f"documents/{number:07d}" + "/" + "é" * 100 + ("/" + "d" * 200) * 15)], end=False)
        yield END

    _packed(members(), path, size)


def pax_records(path: Path, size: int) -> None:
    data = b"4 =\n" * (60 * 1024 // 4)
    info, _ = entry("pax", data, kind=b"x")
    block = tar_bytes([(info, data)], end=False)
    # One header a name: the last of them is the entry's own.
    _packed(_flat(TOP, (block * 8 + entry(f"documents/{n}")[0].tobuf() for n in range(3_000))), path, size)


def pax_header(path: Path, size: int) -> None:
    info, _ = entry("pax", kind=b"x", size=100 * 1024**2)
    _packed(_flat(TOP, info.tobuf(), _again(b"9 a=xxxx\n", 100 * 1024**2 // 9)), path, size)


def long_name_chain(path: Path, size: int) -> None:
    info, _ = entry("././@LongLink", b"x", kind=b"L", size=60 * 1024)
    _packed(_flat(TOP, _again(info.tobuf() + b"x" * 60 * 1024, 3_000)), path, size)


def sparse_map(path: Path, size: int) -> None:
    info, _ = entry("documents/s", kind=b"S", size=10**15)
    _packed(_flat(TOP, info.tobuf(), _again(b"0" * 512, 10**6)), path, size)


def zeros(path: Path, size: int) -> None:
    info, _ = entry("documents/z", size=10**14)
    _packed(_flat(TOP, info.tobuf(), _again(bytes(100_000))), path, size)


def noise_behind(path: Path, size: int) -> None:
    """A good archive with much behind its end mark."""
    _packed(_flat(TOP, END, _again(hashlib.sha512(b"").digest() * 1000)), path, size)


FOREIGN: dict[str, Callable[[Path, int], None]] = {
    "members of one byte": one_byte_members,
    "empty members": empty_members,
    "a gzip header of all bytes": long_gzip_name,
    "extra fields": gzip_extra_fields,
    "empty blocks": empty_blocks,
    "many entries": many_entries,
    "long paths": long_paths,
    "pax records": pax_records,
    "a pax header": pax_header,
    "a chain of long names": long_name_chain,
    "a sparse map": sparse_map,
    "zeros": zeros,
    "noise behind the end": noise_behind,
    "a dump of one-byte members": lambda path, size: _dump_of_raw(path, _one_byte_dump() * (1 + size // 10**7)),
    "a dump of empty members": lambda path, size: _dump_of_raw(path, EMPTY_MEMBER * (max(size, 10**6) * 10 // 20)),
    "a dump of quotes": _dump_of(lambda: _flat(HEAD, _again(b"SELECT ''''"))),
    "a dump of tiny statements": _dump_of(lambda: _flat(HEAD, _again(b"a;"))),
    "a dump of words": _dump_of(
        lambda: _flat(HEAD, _again(b"CREATE FUNCTION f() BEGIN ATOMIC " + b"case end " * 10_000 + b"END;"))
    ),
    "a dump of comments": _dump_of(lambda: _flat(HEAD, _again(b"/* "))),
    "a dump of dollar quotes": _dump_of(lambda: _flat(HEAD, _again(b"SELECT $" + b"a" * 1000 + b"$ $b$ $b ;"))),
    "a dump of parentheses": _dump_of(lambda: _flat(HEAD, _again(b"(a "))),
    "a dump of backslashes": _dump_of(lambda: _flat(HEAD, b"SELECT E'", _again(b"\\\\"))),
    "a dump of code": _dump_of(lambda: _flat(HEAD, _again(b"CREATE VIEW v AS SELECT 1;\n"))),
    "a dump of one row": _dump_of(lambda: _flat(HEAD, b"COPY a (b) FROM stdin;\n", _again(b"x"))),
    "a dump of empty rows": _dump_of(lambda: _flat(HEAD, b"COPY a (b) FROM stdin;\n", _again(b"\n"))),
    "a dump of tables": _dump_of(
        lambda: _flat(HEAD, (b"COPY t%d (b) FROM stdin;\n\\.\n" % n for n in range(3 * 10**6)), TAIL)
    ),
    "a dump of one table": _dump_of(lambda: _flat(HEAD, _again(b"COPY t (b) FROM stdin;\n\\.\n"))),
    "a table's name": _dump_of(lambda: _flat(HEAD, b'COPY "', _again(b"x", 30_000_000), b'" (b) FROM stdin;\n\\.\n', TAIL)),
    "a COPY of blanks": _dump_of(lambda: _flat(HEAD, _again(b"COPY a" + b" " * 900_000 + b"x;\n"))),
}


def _dump_of_raw(path: Path, body: bytes) -> None:
    info, _ = entry("database/app.sql.gz", size=len(body))
    _packed([tar_bytes([folder("database/")], end=False), info.tobuf(), body, bytes(-len(body) % 512), END], path, 1 << 60)


# Of format 1, signed by nobody.


def manifest_text(**changes: object) -> bytes:
    """Return an unsigned manifest that is as this program writes it, with other values for some of its fields."""
    documents: dict[str, object] = {"files": 1, "folders": 0, "symlinks": 0, "bytes": 0, "index_offset": 0, "index_bytes": 0}
    documents |= {"index_sha256": ZERO, "first_member": 0}
    database = {"path": "database/app.sql.gz", "size_bytes": 0, "sha256": ZERO, "sql_bytes": 0}
    database |= {"facts": {"server_version": "18", "server_version_num": "180000"}, "pg_dump_version": "18"}
    database |= {"snapshot_lsn": "0/0", "segments": []}
    values: dict[str, object] = {
        "format": 1,
        "backup_id": "00000000-0000-0000-0000-000000000000",
        "app": "app",
        "kind": "manual",
        "attempt": 1,
        "started_at": "2026-03-01T03:00:00Z",
        "finished_at": "2026-03-01T03:00:00Z",
        "tool_version": "1",
        "labels": {},
        "warnings": [],
        "tables": [],
        "documents": documents | dict(changes.pop("documents", {})),  # type: ignore[call-overload]
        "database": database | dict(changes.pop("database", {})),  # type: ignore[call-overload]
        "header_bytes": len(b"".join(front("app", 0, 0))),
        "raw_sha256": ZERO,
    }
    return sealed(json.dumps(values | changes, indent=1, separators=(",", ": ")).encode()[:-2])


def sealed(body: bytes) -> bytes:
    """Complete a manifest's text, without its last two lines, with nobody's signature and a correct checksum."""
    text = body + b',\n "signature": "%b"' % ZERO.encode()
    return text + b',\n "checksum": "%b"\n}\n' % hashlib.sha256(text + b"\n}\n").hexdigest().encode()


def write_ours(path: Path, text: bytes, index: Iterable[bytes] = (), deflated: bool = False) -> None:
    """Write an archive with that manifest; the members of the index are given as they are."""
    with path.open("wb") as file:
        file.writelines(front("app", 0, 0))
        file.writelines(index)
        offset = file.tell()
        if deflated:
            lead = header("manifest.json", "file", len(text), Attributes(mtime=1772334000))
            file.writelines(deflated_member(lead, text, padding(len(text)), END))
        else:
            file.writelines(manifest_member(text, 1772334000))
        file.write(footer(offset, file.tell() - offset))


def _manifest(body: Callable[[int], bytes], deflated: bool = False) -> Callable[[Path, int], None]:
    return lambda path, size: write_ours(path, sealed(b'{\n "format": 1' + body(size)), deflated=deflated)


def _indexed(line: Callable[[int], bytes], **documents: int) -> Callable[[Path, int], None]:
    """Return what writes an archive whose index has this line again and again."""

    def make(path: Path, size: int) -> None:
        text = line(size)
        packer = zlib.compressobj(1, wbits=31)
        wanted = min(size * 150, 1024**3)
        count = max(1, wanted // len(text))
        block = text * min(count, max(1, 100_000 // len(text)))
        blocks = max(1, count * len(text) // len(block))
        count = blocks * len(block) // len(text)
        lead = header("documents.index.jsonl", "file", size=blocks * len(block))
        parts = [packer.compress(lead), *(packer.compress(block) for _ in range(blocks)), packer.flush()]
        start = len(b"".join(front("app", 0, 0)))
        found = {"files": count, "index_offset": start, "first_member": start, "index_bytes": count * len(text)} | documents
        write_ours(path, manifest_text(documents=found), parts)

    return make


def index_line(**changes: object) -> bytes:
    facts = {"path": "a", "kind": "file", "size": 0, "mode": 384, "mtime_ns": 0, "uid": 0, "gid": 0, "user": "", "group": ""}
    facts |= {"member": 52, "skip": 512, "sha256": ZERO}
    return json.dumps(facts | changes).encode() + b"\n"


def behind_the_index(path: Path, size: int) -> None:
    """An index of one line, and gigabytes behind it in its members."""
    line = index_line()
    lead = header("documents.index.jsonl", "file", size=len(line))
    start = len(b"".join(front("app", 0, 0)))
    more = b"".join(deflated_member(bytes(1024**2)))
    parts = [b"".join(deflated_member(lead, line)), more * (size // len(more) + 1)]
    write_ours(
        path, manifest_text(documents={"index_offset": start, "first_member": start, "index_bytes": len(line)}), parts
    )


def a_document_of_zeros(path: Path, size: int) -> None:
    """One document of which the archive holds a thousand times its own size."""
    start = len(b"".join(front("app", 0, 0)))
    more = b"".join(deflated_member(bytes(4 * 1024**2)))
    count = size // len(more) + 1
    line = index_line(size=count * 4 * 1024**2, member=start)
    lead = header("documents/a", "file", size=count * 4 * 1024**2)
    index = b"".join(stored_member(header("documents.index.jsonl", "file", size=len(line)), line, padding(len(line))))
    parts = [b"".join(deflated_member(lead)), more * count]
    at = start + sum(map(len, parts))
    found = {"index_offset": at, "first_member": start, "index_bytes": len(line), "bytes": count * 4 * 1024**2}
    write_ours(path, manifest_text(documents=found), [*parts, index])


OURS: dict[str, Callable[[Path, int], None]] = {
    "a manifest of lists": _manifest(lambda size: b',\n "x": [' + b"[]," * (min(size, 60_000_000) // 3) + b"0]"),
    "a manifest of objects": _manifest(lambda size: b',\n "x": [' + b'{"":1},' * (min(size, 4_190_000) // 7) + b"0]"),
    "a deep manifest": _manifest(lambda size: b',\n "x": ' + b"[" * min(size, 4_190_000)),
    "a packed manifest": _manifest(lambda size: b',\n "x": [' + b"[]," * 15_000_000 + b"0]", deflated=True),
    "facts without end": lambda path, size: write_ours(
        path, manifest_text(database={"facts": {"server_version": "18", "x": [[]] * (min(size, 4_000_000) // 10)}})
    ),
    "a line without end": _indexed(lambda size: index_line(path="x" * min(size, 50_000_000))),
    "a deep line": _indexed(lambda size: b'{"path": ' + b"[" * 60_000 + b"\n"),
    "many lines": _indexed(lambda size: index_line()),
    "many folders": _indexed(lambda size: index_line(kind="folder"), files=0, folders=10**6),
    "empty lines": _indexed(lambda size: b"\n"),
    "much behind the index": behind_the_index,
    "a document of zeros": a_document_of_zeros,
}
