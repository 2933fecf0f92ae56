"""The last members of an archive: the manifest, the end of the tar stream, and the footer that points at the manifest."""

from __future__ import annotations

from . import tar_headers
from .gzip_members import Buffer, stored_member

MANIFEST_NAME = "manifest.json"


def manifest_member(text: bytes, mtime: int) -> list[Buffer]:
    """Given manifest.json's bytes and its time in seconds, return the member that ends the tar stream."""
    lead = tar_headers.header(MANIFEST_NAME, "file", size=len(text), mtime=mtime)
    return stored_member(lead, text, tar_headers.padding(len(text)), tar_headers.END_OF_ARCHIVE)
