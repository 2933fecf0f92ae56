"""Names of schemas, tables and columns in a dump, which has them in the encoding of its database.

"As in the dump" means: its bytes as UTF-8, with invalid ones as surrogate escapes (PEP 383). The server knows such a name
only in a session with the dump's client_encoding.
"""

from __future__ import annotations


def unquoted(name: bytes | None) -> str:
    """Return the name, as in the dump, of an identifier as pg_dump writes it; "" for none."""
    if name is None:
        return ""
    if name.startswith(b'"'):
        name = name[1:-1].replace(b'""', b'"')
    return name.decode("utf-8", "surrogateescape")


def as_dumped(name: bytes) -> str:
    """Return a name as in the dump that the server wrote in the dump's encoding (convert_to)."""
    return name.decode("utf-8", "surrogateescape")


def quoted(*names: str) -> bytes:
    """Return the quoted identifier of names as in the dump; the schema is optional."""
    raw = (name.encode("utf-8", "surrogateescape") for name in names if name)
    return b".".join(b'"' + name.replace(b'"', b'""') + b'"' for name in raw)


def readable(name: str, encoding: str) -> str:
    """Return a readable name, from one as in a dump of an encoding such as LATIN1."""
    raw = name.encode("utf-8", "surrogateescape")
    try:
        # Python knows most of PostgreSQL's encodings by the same name, and these by others.
        return raw.decode("utf-8" if raw.isascii() else encoding.replace("WIN", "cp").replace("KOI8", "koi8_"))
    except (LookupError, ValueError):
        return raw.decode("utf-8", "backslashreplace")
