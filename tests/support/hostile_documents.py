"""Hostile archives of documents, made by combining what can be wrong: some 300 of them, all different."""

from __future__ import annotations

import gzip
import itertools
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from uuid import UUID

from tests.support.hostile import Member, dump_member, dump_of, entry, folder, link, tar_bytes

TOP = [folder("database/"), dump_member(dump_of()), folder("documents/", mode=0o750)]
PLANTED = UUID("11111111-2222-4333-8444-555555555555")
"""The restore that a planted journal is about."""

CHAINS: dict[str, list[tuple[str, str]]] = {
    "up": [("out", "..")],
    "one up from below": [("f/out", "../..")],
    "absolute": [("out", "/")],
    "to itself, then up": [("a", "."), ("a/out", "..")],
    "to itself twice, then up": [("a", "."), ("a/b", "."), ("a/b/out", "../..")],
    "to the root, then up": [("p/q/r", "../.."), ("p/q/r/out", "../..")],
    "through one that stays inside": [("f/here", ".."), ("out", "f/here/..")],
    "through one that comes later": [("out", "z/../.."), ("z", "f")],
    "behind what is not there": [("out", "nothing/../..")],
    "through another case": [("F/Here", ".."), ("out", "f/here/../..")],
    "dots and slashes": [("out", ".//./f/.././..//.")],
    "a loop with a way out": [("l", "m"), ("m", "l/../..")],
    "to the staging folder's name": [("out", "../.documents_restore_x/..")],
    "to the live folder's name": [("out", "../documents/..")],
    "thirty links, then up": [*((f"l{n}", f"l{n + 1}") for n in range(30)), ("l30", ".."), ("out", "l0")],
}
"""Links below documents/ that, one after the other, make `out` lead to the folder above."""

WAYS: dict[str, Callable[[str, str, bytes], list[Member]]] = {
    "only the links": lambda out, below, content: [],
    "a file": lambda out, below, content: [entry(f"documents/{out}/{below}", content)],
    "a folder": lambda out, below, content: [folder(f"documents/{out}/{below}", mode=0o777)],
    "a link": lambda out, below, content: [link(f"documents/{out}/{below}", "documents")],
    "a file first": lambda out, below, content: [entry(f"documents/{out}/{below}", content)],
    "the link as a folder": lambda out, below, content: [folder(f"documents/{out}", mode=0o777)],
}
NAMES = [
    "documents/../planted", "documents/f/../../planted", "documents/./planted", "documents//planted", "documents/..",
    "documents/f/..", "/planted", "//planted", "../planted", "documents/f/", "documents/a\nb\x1b[31m",
    "documents/" + "x" * 256, "documents/" + "x/" * 17_000 + "x", "documents/.restores/x.json", "documents/a\\..\\planted",
    "documents/.documents_restore_000000000000", "documents/\udcff\udc80", "documents/ ", "documents/-rf", "./../planted",
    "././documents/../planted", "documents", "database/../documents/x", "documents/con", "documents/a:b",
]  # fmt: skip
KINDS: dict[str, Callable[[str], Member]] = {
    "file": lambda name: entry(name, b"x", mode=0o666),
    "folder": lambda name: folder(name, mode=0o777),
    "link": lambda name: link(name, "f"),
}
TYPES = {
    "a hard link": tarfile.LNKTYPE, "a character device": tarfile.CHRTYPE, "a block device": tarfile.BLKTYPE,
    "a pipe": tarfile.FIFOTYPE, "a contiguous file": tarfile.CONTTYPE, "a sparse file": tarfile.GNUTYPE_SPARSE,
}  # fmt: skip
HARD = ["/etc/passwd", "../../../outside/secret", "documents/f/g", "documents/../../outside/secret", "f/g"]


@dataclass(frozen=True)
class Hostile:
    """A hostile archive: what it is, its members (`raw` instead, if there is any) and its tar format."""

    what: str
    members: list[Member]
    format: Literal[0, 1, 2] = tarfile.GNU_FORMAT
    raw: bytes = b""

    def write(self, path: Path) -> Path:
        """Write it and return its path."""
        path.write_bytes(gzip.compress(self.raw or tar_bytes(self.members, self.format), 1))
        return path


def all_hostile() -> list[Hostile]:
    """Return every one of them."""
    return [*_through_links(), *_names(), *_kinds(), *_twice(), *_facts()]


def journal(documents: str = "/", database: str = "postgres") -> bytes:
    """Return a journal as an attacker would plant it: a restore that has staged what is somebody else's."""
    return json.dumps(
        {
            "restore_id": str(PLANTED), "step": "staging", "wanted": "new", "staging_database": database,
            "staging_folder": documents, "sandbox": True, "database": None, "folder": None, "abandoned": False,
            "transaction": None,
        }
    ).encode()  # fmt: skip


def _through_links() -> Iterator[Hostile]:
    below = ["planted", f".restores/{PLANTED}.json", "../.restores", "documents/f/planted"]
    for number, ((what, links), (way, members)) in enumerate(itertools.product(CHAINS.items(), WAYS.items())):
        made = [link(f"documents/{path}", target) for path, target in links]
        out = next((path for path, _ in reversed(links) if path.endswith("out")), links[-1][0])
        through = members(out, below[number % len(below)], journal())
        parts = [*through, *made] if way == "a file first" else [*made, *through]
        yield Hostile(f"{what}: {way}", [*TOP, folder("documents/f/"), *parts])
    for what, links in CHAINS.items():  # a journal as a link to one that lies in the documents
        made = [link(f"documents/{path}", target) for path, target in links]
        out = next((path for path, _ in reversed(links) if path.endswith("out")), links[-1][0])
        planted = [
            entry("documents/f/journal", journal()),
            link(f"documents/{out}/../.restores/{PLANTED}.json", "../app/documents/f/journal"),
            link(f"documents/{out}/{PLANTED}.json", "documents/f/journal"),
        ]
        yield Hostile(f"{what}: a journal as a link", [*TOP, *made, planted[0], planted[2]])
        yield Hostile(f"{what}: a journal as a link by dots", [*TOP, *made, *planted[:2]])


def _names() -> Iterator[Hostile]:
    formats: dict[str, Literal[0, 1, 2]] = {"GNU": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
    for (kind, make), name, (form, number) in itertools.product(KINDS.items(), NAMES, formats.items()):
        if form == "GNU" or len(name) < 200:
            yield Hostile(f"{kind} {name[:60]!r} ({form})", [*TOP, folder("documents/f"), make(name)], number)
    for key, value in {"path": "documents/a\0b", "linkpath": "/etc\0", "size": "-1", "uid": "-5", "mtime": "-1e9"}.items():
        member = entry("documents/x", b"x")
        member[0].pax_headers = {key: value}
        yield Hostile(f"pax {key}", [*TOP, member], tarfile.PAX_FORMAT)


def _kinds() -> Iterator[Hostile]:
    for (what, kind), target in itertools.product(TYPES.items(), HARD):
        if what == "a hard link" or target == HARD[0]:
            yield Hostile(f"{what} to {target}", [*TOP, folder("documents/f"), link("documents/x", target, kind)])


def _twice() -> Iterator[Hostile]:
    for (one, make), (two, again) in itertools.product(KINDS.items(), repeat=2):
        yield Hostile(f"{one} and {two} of one name", [*TOP, make("documents/x"), again("documents/x")])
        yield Hostile(f"{one} and {two} in two cases", [*TOP, make("documents/x"), again("documents/X")])
        yield Hostile(f"{two} below {one}", [*TOP, make("documents/x"), again("documents/x/y")])
        yield Hostile(f"{two} above {one}", [*TOP, make("documents/x/y"), again("documents/x")])


def _facts() -> Iterator[Hostile]:
    for mode in (0, 0o7777, 0o4755, 0o2777, 0o1777, 0o4000):
        members = [folder("documents/f", mode=mode), entry("documents/f/x", b"x", mode=mode), link("documents/l", "f/x")]
        yield Hostile(f"mode {mode:o}", [folder("documents/", mode=mode or 0o700), *members])
    for mtime in (-1, -(2**40), 2**33, 2**62, 2**63 - 1, 2**80):
        yield Hostile(f"time {mtime}", [*TOP, entry("documents/x", b"x", mtime=mtime)])
    for owner in (1, 65_534, 2**31, 2**32 - 2):
        yield Hostile(f"owner {owner}", [*TOP, entry("documents/x", b"x", uid=owner, gid=owner)])
    yield Hostile("no end", [], raw=tar_bytes([*TOP, entry("documents/x", b"x")], end=False))
    yield Hostile("cut in a name", [], raw=tar_bytes([*TOP, entry("documents/" + "x" * 300)])[:-2000])
    deep = "documents/" + "/".join("x" * 200 for _ in range(150))
    yield Hostile("deep", [*TOP, entry(f"{deep}/file", b"x"), link(f"{deep}/link", "../" * 100 + "x")])
    yield Hostile("deep, and out", [*TOP, entry(f"{deep}/file", b"x"), link(f"{deep}/link", "../" * 151 + "x")])
