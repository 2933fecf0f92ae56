"""/api/admin/backups/:id/contents: what is inside an archive, and its single documents."""

from __future__ import annotations

from uuid import UUID

from apiflask import APIBlueprint, FileSchema
from flask import Response, url_for

from app.api.schemas.contents import ContentsOut, DocumentQuery, DocumentsOut, DocumentsQuery, EntryOut, readable
from app.http.auth import actor, protect, requires
from app.http.document_response import send_document
from app.http.exact_path import path_from_query, url_with_path
from app.services.backups import archive_index, contents

bp = APIBlueprint("api_contents", __name__, url_prefix="/api/admin/backups", tag="Contents")
protect(bp)


@bp.get("/<uuid:backup_id>/contents")
@requires("read")
@bp.output(ContentsOut)
@bp.doc(responses=[409])
def get_contents(backup_id: UUID) -> ContentsOut:
    """Show what is inside an archive: each table's rows and bytes, and how many documents there are.

    Read from the manifest, so a large archive takes no longer. 409 for an archive from another program, which has none.
    """
    return ContentsOut.of(contents.look(backup_id), url_for(".list_documents", backup_id=backup_id))


@bp.get("/<uuid:backup_id>/contents/documents")
@requires("read")
@bp.input(DocumentsQuery, location="query")
@bp.output(DocumentsOut)
@bp.doc(responses=[409])
def list_documents(backup_id: UUID, query_data: DocumentsQuery) -> DocumentsOut:
    """List a folder of an archive's documents, folders first; with `search`, the documents below it by name."""
    folder = path_from_query("folder")
    found = contents.documents(backup_id, folder, query_data.search, query_data.page, query_data.page_size)
    return DocumentsOut(
        folder=readable(found.folder),
        search=found.search,
        items=[shown(backup_id, entry) for entry in found.page.items],
        page=found.page.page,
        page_size=found.page.page_size,
        total=found.page.total,
    )


@bp.get("/<uuid:backup_id>/contents/document")
@requires("backup")
@bp.input(DocumentQuery, location="query")
@bp.output(FileSchema(type="string", format="binary"), content_type="application/octet-stream")
@bp.doc(responses=[409])
def get_document(backup_id: UUID, query_data: DocumentQuery) -> Response:  # noqa: ARG001 - checked
    """Download one document from an archive. The ETag is its SHA-256; a damaged document is refused, or ends early."""
    return send_document(actor(), backup_id, path_from_query("path"))


def shown(backup_id: UUID, entry: archive_index.Entry) -> EntryOut:
    """Build the JSON of an entry of a backup's archive."""
    endpoints = {"file": (".get_document", "path"), "folder": (".list_documents", "folder")}
    where = endpoints.get(entry.kind)
    return EntryOut(
        path=readable(entry.path),
        name=readable(entry.name),
        kind=entry.kind,  # type: ignore[arg-type]
        size_bytes=entry.size_bytes,
        documents=entry.documents,
        modified_at=entry.modified_at,
        sha256=entry.sha256 or None,
        target=readable(entry.target) or None,
        url=url_with_path(where[0], where[1], entry.path, backup_id=backup_id) if where else None,
    )
