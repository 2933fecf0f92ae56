"""Names and frames of an archive: the headers in front of the dump, the documents' index, and the manifest at the end."""

from __future__ import annotations

from ..storage.interface import Buffer
from . import tar_headers
from .gzip_members import stored_member
from .tar_headers import Attributes

DATABASE_FOLDER = "database"
INDEX_NAME = "documents.index.jsonl"
MANIFEST_NAME = "manifest.json"


def database_path(app_name: str) -> str:
    """Return the path of an app's dump in the archive."""
    return f"{DATABASE_FOLDER}/{app_name}.sql.gz"


def front(app_name: str, size: int, mtime: int) -> list[Buffer]:
    """Return the archive's first member: the tar headers in front of a .sql.gz of `size` bytes."""
    folder = tar_headers.header(DATABASE_FOLDER, "folder", 0, Attributes(0o700, mtime))
    return stored_member(folder + tar_headers.header(database_path(app_name), "file", size, Attributes(mtime=mtime)))


def manifest_member(text: bytes, mtime: int) -> list[Buffer]:
    """Return the member that holds manifest.json and ends the tar stream. `mtime` is in seconds."""
    lead = tar_headers.header(MANIFEST_NAME, "file", len(text), Attributes(mtime=mtime))
    return stored_member(lead, text, tar_headers.padding(len(text)), tar_headers.END_OF_ARCHIVE)
