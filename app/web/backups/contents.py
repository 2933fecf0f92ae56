"""What is inside a backup: its tables, its documents as folders to browse, one document to download."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue
from flask_login import login_required

from app.engine.source.documents import shown
from app.errors import DomainError, NotFound
from app.http.document_response import send_document
from app.http.errors import status_of
from app.http.exact_path import path_from_query, url_with_path
from app.services.backups import backups, contents
from app.web.actor import current_actor
from app.web.backups.backup_filters import plain

bp = Blueprint("contents", __name__, url_prefix="/backups")

PAGE_SIZE = 100
MOST_TABLES = 1000
KINDS_OF_FILES = {
    "image": ("avif", "bmp", "gif", "heic", "jpeg", "jpg", "png", "svg", "tif", "tiff", "webp"),
    "pdf": ("pdf",),
    "text": ("log", "md", "rtf", "txt"),
    "spreadsheet": ("csv", "ods", "xls", "xlsx"),
    "word": ("doc", "docx", "odt"),
    "zip": ("7z", "bz2", "gz", "rar", "tar", "xz", "zip"),
    "play": ("avi", "m4v", "mkv", "mov", "mp4", "webm"),
    "music": ("flac", "m4a", "mp3", "ogg", "wav"),
    "code": ("css", "html", "js", "json", "sql", "xml"),
}
ICONS = {ending: f"file-earmark-{kind}" for kind, endings in KINDS_OF_FILES.items() for ending in endings}


bp.add_app_template_filter(shown)


@bp.before_request
@login_required
def admins_only() -> None:
    """Require a login for every route of this blueprint."""


@bp.get("/<uuid:backup_id>/tables")
def tables(backup_id: UUID) -> ResponseReturnValue:
    """List the tables in a backup, the largest first."""
    row = backups.get(backup_id)
    try:
        found = contents.look(backup_id)
    except DomainError as error:
        return show_problem(row, "tables", error)
    largest = sorted(found.tables, key=lambda table: (-table.bytes, -table.rows, table.schema, table.name))
    return render_template("backups/tables.html", row=row, found=found, tables=largest[:MOST_TABLES])


@bp.get("/<uuid:backup_id>/documents")
def documents(backup_id: UUID) -> ResponseReturnValue:
    """List a folder of the documents in a backup, or what a search finds below it."""
    row = backups.get(backup_id)
    folder, search = path_from_query("folder"), plain(request.args.get("search", "")) or ""
    number = max(1, request.args.get("page", 1, type=int))
    try:
        found = contents.documents(backup_id, folder, search, number, PAGE_SIZE)
    except DomainError as error:
        return show_problem(row, "documents", error)

    def address(path: str, page: int | None = None, searching: str | None = None) -> str:
        return url_with_path(".documents", "folder", path, backup_id=backup_id, page=page, search=searching or None)

    def file_address(path: str) -> str:
        return url_with_path(".document", "path", path, backup_id=backup_id)

    values = {"row": row, "found": found, "crumbs": crumbs(folder), "address": address, "file_address": file_address}
    return render_template("backups/documents.html", file_icon=file_icon, **values)


@bp.get("/<uuid:backup_id>/documents/file")
def document(backup_id: UUID) -> ResponseReturnValue:
    """Send one document out of the archive as a download."""
    return send_document(current_actor(), backup_id, path_from_query("path"))


def show_problem(row: backups.BackupHistory, at: str, error: DomainError) -> ResponseReturnValue:
    """Render the page that explains why a tab of a backup has nothing to show."""
    foreign = isinstance(error, contents.NotIndexed)
    missing = isinstance(error, NotFound)
    status = 200 if foreign else status_of(error)
    return render_template("backups/no_contents.html", row=row, at=at, error=error, foreign=foreign, missing=missing), status


def crumbs(folder: str) -> list[tuple[str, str]]:
    """List the name and path of each folder on the way to a folder, including the folder itself."""
    names = folder.split("/") if folder else []
    return [(name, "/".join(names[: number + 1])) for number, name in enumerate(names)]


def file_icon(name: str) -> str:
    """Return the name of the icon for a document's file type."""
    return ICONS.get(name.rpartition(".")[2].lower(), "file-earmark")
