"""Sends a document out of an archive, for pages and the API."""

from __future__ import annotations

import unicodedata
from urllib.parse import quote
from uuid import UUID

from flask import Response, request

from app.engine.source.documents import shown
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.backups import contents

# Characters with a special meaning to some file system or shell.
SPECIAL = frozenset('<>:"/\\|?*')
LONGEST_NAME = 180
# Characters that RFC 5987 allows unquoted.
PLAIN = "!#$&+-.^_`|~"


def send_document(actor: Actor, backup_id: UUID, path: str) -> Response:
    """Send the document at a path of the archive's index, always as a download, whatever its type: its content is untrusted.

    Raise NotFound or Conflict."""
    document = contents.open_document(backup_id, path)
    if request.method == "GET":
        try:
            audit.record_download(actor, "backup.document_downloaded", backup_id, {"document": shown(path)})
        except BaseException:
            document.close()
            raise
    response = Response(document, mimetype="application/octet-stream")  # closes the document at the end
    response.content_length = document.size_bytes
    response.set_etag(document.sha256)
    if document.modified_at is not None and document.modified_at.year >= 1900:
        response.last_modified = document.modified_at
    response.headers["Content-Disposition"] = disposition(document.path.rpartition("/")[2])
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response.headers["Cache-Control"] = "private, no-store"
    return response


def disposition(name: str) -> str:
    """Build the Content-Disposition header that saves a document under a name that is safe everywhere (RFC 6266)."""
    safe = safe_name(name)
    plain = unicodedata.normalize("NFKD", safe).encode("ascii", "ignore").decode().strip(" .") or "document"
    if plain == safe:
        return f'attachment; filename="{plain}"'
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(safe, safe=PLAIN)}"


def safe_name(name: str) -> str:
    """Clean a file name from an archive: no path, no control or direction characters, only UTF-8, no leading dot, not
    too long. The extension is kept."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    text = "".join("_" if char in SPECIAL or not char.isprintable() else char for char in text)
    text = text.strip(" .")
    if len(text.encode()) > LONGEST_NAME:
        stem, dot, ending = text.rpartition(".")
        ending = f".{ending}" if dot and stem and len(ending) <= 10 else ""
        kept = text.encode()[: LONGEST_NAME - len(ending.encode())]
        text = kept.decode("utf-8", "ignore").rstrip(" .") + ending
    return text or "document"
