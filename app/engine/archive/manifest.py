"""The manifest: an archive's signed description of itself. See docs/archive-format.md."""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints
from uuid import UUID

from ..errors import ArchiveError
from ..source.names import readable

FORMAT = 1
SIGNATURE_CONTEXT = b"backup archive manifest, format 1\0"
LARGEST_NUMBER = 2**62
LONGEST_UNSIGNED = 4 * 1024 * 1024
"""In bytes. A longer unsigned manifest is not parsed, as JSON takes up to 40 times its size in memory. Enough for some
8,000 tables; a signed one may be longer."""

Part = TypeVar("Part")


def checked(kind: type[Part], values: dict[str, Any]) -> Part:
    """Build a dataclass from values. Raise TypeError unless each value has its field's type."""
    part = kind(**values)
    for name, fits in _checks(kind):
        if not fits(getattr(part, name)):
            raise TypeError(f"{name} has the wrong type")
    return part


def _find_checks(kind: Any) -> list[tuple[str, Callable[[Any], bool]]]:
    """Return, for each field of a dataclass, a function that checks whether a value has its type."""
    hints = get_type_hints(kind, include_extras=True)
    return [(name, _check(hint)) for name, hint in hints.items() if hint is not Any]


_checks: Callable[[Any], list[tuple[str, Callable[[Any], bool]]]] = functools.cache(_find_checks)


def _check(hint: Any) -> Callable[[Any], bool]:
    origin = get_origin(hint)
    if origin in (list, dict):
        inner = _check(get_args(hint)[-1])
        return lambda value: isinstance(value, origin) and all(map(inner, value if origin is list else value.values()))
    if origin is Annotated:  # a number with its own limit
        limit = get_args(hint)[1]
        return lambda value: type(value) is int and abs(value) <= limit
    if hint is int:
        return lambda value: type(value) is int and abs(value) < LARGEST_NUMBER
    if hint is Any:
        return lambda _value: True
    return lambda value: isinstance(value, hint)


@dataclass(frozen=True)
class TableEntry:
    """A table in the dump, named as there: its rows, and its bytes of COPY text."""

    schema: str
    name: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class Segment:
    """A part of the dump that begins with a gzip member of its own: plain SQL, or one COPY's rows.

    `offset` is the archive's byte at which its first outer member begins, `pieces` are its outer members' lengths in bytes,
    `size_bytes` its text unpacked. `continued` lists pieces that begin inside a row. `statement` is the COPY statement.
    """

    kind: str
    offset: int
    pieces: list[int]
    size_bytes: int
    rows: int = 0
    schema: str = ""
    table: str = ""
    statement: str = ""
    continued: list[int] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        shared = {"kind": self.kind, "offset": self.offset, "pieces": self.pieces, "bytes": self.size_bytes}
        if self.kind == "sql":
            return shared
        named = {"schema": self.schema, "table": self.table, "rows": self.rows, "statement": self.statement}
        return shared | named | ({"continued": self.continued} if self.continued else {})

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Segment:
        values = dict(data)
        return checked(cls, {"size_bytes": values.pop("bytes"), **values})


@dataclass(frozen=True)
class DatabasePart:
    """The dump in the archive. `sha256` and `size_bytes` are those of the .sql.gz as `tar` extracts it."""

    path: str
    size_bytes: int
    sha256: str
    sql_bytes: int
    facts: dict[str, Any]
    pg_dump_version: str
    snapshot_lsn: str
    segments: list[Segment]

    @property
    def tables(self) -> list[TableEntry]:
        """Return the tables with their rows; a partitioned table that is loaded through its root counts as one."""
        sums: dict[tuple[str, str], tuple[int, int]] = {}
        for segment in self.segments:
            if segment.kind == "copy":
                rows, size = sums.get((segment.schema, segment.table), (0, 0))
                sums[segment.schema, segment.table] = (rows + segment.rows, size + segment.size_bytes)
        return [TableEntry(schema, name, rows, size) for (schema, name), (rows, size) in sorted(sums.items())]

    @property
    def readable_tables(self) -> list[TableEntry]:
        """Return the tables with readable names."""
        encoding = str(self.facts.get("encoding", "UTF8"))
        return [
            TableEntry(readable(table.schema, encoding), readable(table.name, encoding), table.rows, table.bytes)
            for table in self.tables
        ]


@dataclass(frozen=True)
class DocumentsPart:
    """The documents in the archive: the numbers of regular files, folders and symlinks, and the files' bytes."""

    files: int
    folders: int
    symlinks: int
    bytes: int
    index_offset: int
    index_bytes: int
    index_sha256: str
    first_member: int

    @property
    def count(self) -> int:
        return self.files

    @property
    def entries(self) -> int:
        """The number of lines in the index."""
        return self.files + self.folders + self.symlinks


@dataclass(frozen=True)
class Manifest:
    """An archive's full description of itself. Times are aware UTC, sizes bytes.

    `raw_sha256` is the SHA-256 of the archive's bytes from `header_bytes` up to the manifest's member, followed by its
    first `header_bytes` bytes: the tar header at the front is written last, when the dump's size is known.
    `signed`: whether the signature matches the key that it was read with; None if there was no key.
    """

    backup_id: UUID
    app: str
    kind: str
    attempt: int
    started_at: datetime
    finished_at: datetime
    tool_version: str
    labels: dict[str, str]
    database: DatabasePart
    documents: DocumentsPart
    warnings: list[str]
    header_bytes: int
    raw_sha256: str
    signature: str = ""
    signed: bool | None = None

    @property
    def tables(self) -> list[TableEntry]:
        return self.database.tables

    @property
    def server_version(self) -> str:
        return str(self.database.facts["server_version"])

    def as_json(self) -> dict[str, Any]:
        """Return the manifest without its signature as JSON-ready values."""
        database, documents = self.database, self.documents
        return {
            "format": FORMAT,
            "backup_id": str(self.backup_id),
            "app": self.app,
            "kind": self.kind,
            "attempt": self.attempt,
            "started_at": _iso(self.started_at),
            "finished_at": _iso(self.finished_at),
            "tool_version": self.tool_version,
            "labels": self.labels,
            "warnings": self.warnings,
            "tables": [{"schema": t.schema, "name": t.name, "rows": t.rows, "bytes": t.bytes} for t in self.tables],
            "documents": dict(vars(documents)),
            "database": {
                **{name: value for name, value in vars(database).items() if name != "segments"},
                "segments": [segment.as_json() for segment in database.segments],
            },
            "header_bytes": self.header_bytes,
            "raw_sha256": self.raw_sha256,
        }


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


_ENCODER = json.JSONEncoder(indent=1, ensure_ascii=True, separators=(",", ": "))


def _text(values: dict[str, Any]) -> bytes:
    return _ENCODER.encode(values).encode() + b"\n"


def sign(values: dict[str, Any], key: bytes) -> str:
    """Return the HMAC-SHA-256 (RFC 2104) of the manifest's values without signature, in hex."""
    return hmac.new(key, SIGNATURE_CONTEXT + _text(values), hashlib.sha256).hexdigest()


def serialise(values: dict[str, Any], key: bytes) -> bytes:
    """Return the file's bytes, with signature and checksum last.

    The checksum distinguishes a damaged signature from one made with another key.
    """
    signed = {**values, "signature": sign(values, key)}
    return _text({**signed, "checksum": _checksum(signed)})


def _checksum(signed: dict[str, Any]) -> str:
    return hashlib.sha256(_text(signed)).hexdigest()


_SEALS = re.compile(rb',\n "signature": "([0-9a-f]{64})",\n "checksum": "([0-9a-f]{64})"\n\}\n\Z')
_SEALS_BYTES = len(b',\n "signature": "",\n "checksum": ""\n}\n') + 2 * 64


def _is_signed(data: bytes, key: bytes | None) -> bool:
    """Return whether manifest.json's bytes are signed with the key, before anything in them is trusted or parsed.

    Raise ArchiveError if they do not end with a signature and the checksum of the bytes before it.
    """
    start = max(0, len(data) - _SEALS_BYTES)
    seals = _SEALS.match(data, start)
    if seals is None:
        raise ArchiveError("The manifest can't be read: it does not end with its checksum; the archive is damaged.")
    body = memoryview(data)[:start]
    digest = hashlib.sha256(body)
    digest.update(b',\n "signature": "%b"\n}\n' % seals[1])
    if digest.hexdigest().encode() != seals[2]:
        raise ArchiveError("The manifest is not as it was written; the archive is damaged.")
    if key is None:
        return False
    mac = hmac.new(key, SIGNATURE_CONTEXT, hashlib.sha256)
    mac.update(body)
    mac.update(b"\n}\n")
    return hmac.compare_digest(mac.hexdigest().encode(), seals[1])


def _is_as_written(values: dict[str, Any], data: bytes) -> bool:
    """Return whether the values serialise to these bytes; stop at the first difference, and keep nothing."""
    position = 0
    for part in _ENCODER.iterencode(values):
        piece = part.encode()
        if not data.startswith(piece, position):
            return False
        position += len(piece)
    return data[position:] == b"\n"


def parse(data: bytes, key: bytes | None = None) -> Manifest:
    """Parse manifest.json's bytes; with a key, `signed` says whether the signature matches.

    Raise ArchiveError if it is not a manifest of format 1, or not exactly as this program writes it, or unsigned and too
    long.
    """
    signed = _is_signed(data, key)
    if not signed and len(data) > LONGEST_UNSIGNED:
        raise ArchiveError(
            f"The manifest has {len(data)} bytes, and our key has not signed it: more than {LONGEST_UNSIGNED} are not read."
        )
    try:
        values = json.loads(data)
        if values.get("format") != FORMAT:
            raise ArchiveError(f"The archive has format {values.get('format')!r}; this version reads format {FORMAT}.")
        if not signed and not _is_as_written(values, data):
            raise ArchiveError("The manifest is not as it was written; the archive is damaged.")
        del values["checksum"]
        signature = values.pop("signature")
        database, documents = values["database"], values["documents"]
        segments = [Segment.from_json(segment) for segment in database["segments"]]
        fields = {
            "backup_id": UUID(values["backup_id"]),
            "started_at": datetime.fromisoformat(values["started_at"]),
            "finished_at": datetime.fromisoformat(values["finished_at"]),
            "database": checked(DatabasePart, {**database, "segments": segments}),
            "documents": checked(DocumentsPart, documents),
            "signature": signature,
            "signed": None if key is None else signed,
        }
        manifest = checked(Manifest, fields | {name: values[name] for name in _PLAIN_FIELDS})
        if manifest.as_json() != values or "server_version" not in manifest.database.facts:
            raise ArchiveError("The manifest contradicts itself; the archive is damaged or forged.")
    except ArchiveError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArchiveError(f"The manifest can't be read ({type(error).__name__}); the archive is damaged.") from error
    return manifest


_PLAIN_FIELDS = (
    "app", "kind", "attempt", "tool_version", "labels", "warnings", "header_bytes", "raw_sha256",
)  # fmt: skip
