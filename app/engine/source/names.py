"""Names of schemas, tables and columns in a dump, which has them in the encoding of its database.

As in the dump means here: its bytes as UTF-8, and those that are none as surrogate escapes (PEP 383). The server knows such
a name only in a session with the dump's client_encoding.
"""

from __future__ import annotations


def unquoted(name: bytes | None) -> str:
    """Given an identifier as pg_dump writes it, return the name as in the dump; "" for none."""
    if name is None:
        return ""
    if name.startswith(b'"'):
        name = name[1:-1].replace(b'""', b'"')
    return name.decode("utf-8", "surrogateescape")


def as_dumped(name: bytes) -> str:
    """Given a name that the server has written in the dump's encoding (convert_to), return it as in the dump."""
    return name.decode("utf-8", "surrogateescape")


def quoted(*names: str) -> bytes:
    """Given the names of a schema, if there is one, and of what is in it, as in the dump, return the identifier."""
    raw = (name.encode("utf-8", "surrogateescape") for name in names if name)
    return b".".join(b'"' + name.replace(b'"', b'""') + b'"' for name in raw)


def readable(name: str, encoding: str) -> str:
    """Given a name as in a dump of an encoding, such as LATIN1, return it for people."""
    raw = name.encode("utf-8", "surrogateescape")
    try:
        # Python knows most of PostgreSQL's names of encodings, and these by others.
        return raw.decode("utf-8" if raw.isascii() else encoding.replace("WIN", "cp").replace("KOI8", "koi8_"))
    except (LookupError, ValueError):
        return raw.decode("utf-8", "backslashreplace")
