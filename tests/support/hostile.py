"""Archives from elsewhere, well-meant and hostile: plain tar and gzip, byte by byte where no tool would write them."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

HEAD = b"--\n-- PostgreSQL database dump\n--\n\n-- Dumped from database version 16.4\n-- Dumped by pg_dump version 16.4\n\n"
HEAD += b"SET statement_timeout = 0;\nSET client_encoding = 'UTF8';\nSET standard_conforming_strings = on;\n"
HEAD += b"SELECT pg_catalog.set_config('search_path', '', false);\n\n"
TAIL = b"\n--\n-- PostgreSQL database dump complete\n--\n\n"
GOOD = b"CREATE TABLE public.notes (id integer, text text);\n\nCOPY public.notes (id, text) FROM stdin;\n1\tkept\n\\.\n\n"
"""A table as pg_dump writes it."""

Member = tuple[tarfile.TarInfo, bytes]


def dump_of(*statements: bytes) -> bytes:
    """Return statements as a complete dump, preceded by a valid table."""
    return HEAD + GOOD + b"\n\n".join(statements) + b"\n" + TAIL


def entry(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **facts: Any) -> Member:
    """Return a tar member; `facts` are fields of tarfile.TarInfo."""
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mode, info.mtime = kind, len(content), 0o644, 1_700_000_000
    for field, value in facts.items():
        setattr(info, field, value)
    return info, content


def folder(name: str, **facts: Any) -> Member:
    """Return a folder's tar member."""
    return entry(name, kind=tarfile.DIRTYPE, **{"mode": 0o755} | facts)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> Member:
    """Return a link's tar member."""
    return entry(name, kind=kind, linkname=target)


def dump_member(text: bytes, name: str = "app") -> Member:
    """Return SQL as database/NAME.sql.gz."""
    return entry(f"database/{name}.sql.gz", gzip.compress(text, 1))


def tar_bytes(members: Iterable[Member], format: Literal[0, 1, 2] = tarfile.GNU_FORMAT, end: bool = True) -> bytes:
    """Return the tar stream of members."""
    parts = [block for info, content in members for block in (info.tobuf(format), content, bytes(-len(content) % 512))]
    return b"".join(parts) + (bytes(1024) if end else b"")


def write_archive(path: Path, members: Iterable[Member], format: Literal[0, 1, 2] = tarfile.GNU_FORMAT) -> Path:
    """Write members as a .tar.gz and return its path."""
    path.write_bytes(gzip.compress(tar_bytes(members, format), 1))
    return path


def archive_with_dump(path: Path, text: bytes) -> Path:
    """Write an archive of SQL and two documents."""
    documents = [folder("documents/"), entry("documents/a.txt", b"a"), entry("documents/b.txt", b"b")]
    return write_archive(path, [folder("database/"), dump_member(text), *documents])


def plain_tar(
    path: Path,
    text: bytes,
    documents: Path,
    options: Iterable[str] = ("--format=gnu",),
    dot: bool = False,
    packed: bool = True,
) -> Path:
    """Pack SQL and a documents folder as a person would, with GNU tar, and return the archive's path."""
    place = path.parent / f"{path.name}.folder"
    (place / "database").mkdir(parents=True)
    target = place / "database" / ("app.sql.gz" if packed else "app.sql")
    target.write_bytes(gzip.compress(text, 1) if packed else text)
    subprocess.run(["cp", "-a", documents, place / "documents"], check=True)
    names = ["."] if dot else ["database", "documents"]
    subprocess.run(["tar", "czf", path, *options, "-C", place, *names], check=True)
    return path


def bomb(size: int) -> bytes:
    """Return gzip data that unpacks to that many zeros."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9) as file:
        chunk = bytes(1024 * 1024)
        for _ in range(size // len(chunk)):
            file.write(chunk)
    return buffer.getvalue()
