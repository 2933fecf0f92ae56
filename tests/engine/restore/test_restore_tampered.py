"""An archive of ours that somebody changed, but for the signed manifest: nothing of it is executed, nothing changes."""

from __future__ import annotations

import re
import secrets
import struct
import zlib
from pathlib import Path

import pytest

from app.demo.servers import EmbeddedPostgres
from app.engine.archive.gzip_members import stored_member
from app.engine.archive.reader import inflate, open_archive
from app.engine.errors import RestoreBlocked
from app.engine.restore.restore import restore
from tests.support.archives import KEY
from tests.support.databases import admin_connection
from tests.support.restoring import pristine
from tests.support.small_pair import SMALL_SCHEMA


def packed(content: bytes, length: int) -> bytes:
    """Return a gzip member of exactly that length; the rest is filled by a comment in its header (RFC 1952)."""
    deflate = zlib.compressobj(9, wbits=-15)
    body = deflate.compress(content) + deflate.flush() + struct.pack("<II", zlib.crc32(content), len(content))
    comment = b"x" * (length - len(body) - 11) + b"\0"
    made = b"\x1f\x8b\x08\x10\0\0\0\0\0\xff" + comment + body
    assert len(made) == length
    return made


def with_statement(archive: Path, statement: bytes) -> None:
    """Insert a statement before the first table of an archive's dump, keeping every length and offset."""
    data = bytearray(archive.read_bytes())
    with open_archive(archive, KEY) as reader:
        first = reader.manifest.database.segments[0]
        inner = reader.member(first.offset, first.pieces[0])
    text = re.sub(rb"^--.*\n", b"", inflate(inner), flags=re.MULTILINE)  # what it needs less is room for more
    assert b"CREATE TABLE" in text
    text = text.replace(b"CREATE TABLE", statement + b"\nCREATE TABLE", 1)
    changed = b"".join(stored_member(packed(text, len(inner))))
    assert len(changed) == first.pieces[0]
    data[first.offset : first.offset + len(changed)] = changed
    archive.write_bytes(data)


def with_other_name(archive: Path, name: bytes, other: bytes) -> None:
    """Change a document's name in an archive's index."""
    data = bytearray(archive.read_bytes())
    with open_archive(archive, KEY) as reader:
        begin, end = reader.manifest.documents.index_offset, reader.manifest_offset
        text = b"".join(reader.stream(begin, end))
    assert name in text
    data[begin:end] = packed(text.replace(name, other, 1), end - begin)
    archive.write_bytes(data)


@pytest.mark.parametrize("rights", ["CREATEDB CREATEROLE", "CREATEROLE"], ids=["beside", "in place"])
@pytest.mark.parametrize("scope", ["all", "database"])
def test_no_statement_of_a_changed_dump_is_executed(pg18: EmbeddedPostgres, tmp_path: Path, rights: str, scope: str) -> None:
    (tmp_path / "live").mkdir()
    role = f"tampered_{secrets.token_hex(4)}"
    with pristine(pg18, tmp_path, SMALL_SCHEMA, rights) as made, made.live(tmp_path / "live") as live:
        before = live.state()
        with_statement(made.archive, f"CREATE ROLE {role};".encode())

        with pytest.raises(RestoreBlocked, match="The dump in the archive is not the one that its manifest was signed for"):
            restore(live.request(made.archive, scope=scope))

        with admin_connection(pg18) as admin:
            assert admin.execute("SELECT FROM pg_roles WHERE rolname = %s", [role]).fetchone() is None
        assert live.state() == before
        assert live.remains() == []


def test_no_document_of_a_changed_index_is_written(
    pg18: EmbeddedPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "live").mkdir()
    monkeypatch.setattr("app.engine.restore.stage.StagingFolder", None)
    with pristine(pg18, tmp_path, SMALL_SCHEMA) as made, made.live(tmp_path / "live") as live:
        before = live.state()
        with_other_name(made.archive, b"old.txt", b"new.txt")

        with pytest.raises(RestoreBlocked, match="The index of documents is not the one that the manifest was signed for"):
            restore(live.request(made.archive))

        assert live.state() == before
        assert live.remains() == []
