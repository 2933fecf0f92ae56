"""The JSON of what is inside an archive."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from app.services.backups.archive_index import LONGEST_SEARCH
from app.services.backups.contents import Contents
from app.services.paging import LARGEST_PAGE


class DocumentsQuery(BaseModel):
    """Which folder, and which page of it."""

    model_config = ConfigDict(extra="forbid")

    folder: str = Field(
        "", description="A path below documents/, as in an item's `path`; empty: documents/ itself.", examples=["7"]
    )
    search: str = Field(
        "",
        max_length=LONGEST_SEARCH,
        description="Only documents below the folder whose name contains this, ignoring case.",
    )
    page: int = Field(1, ge=1, le=1_000_000)
    page_size: int = Field(50, ge=1, le=LARGEST_PAGE)


class DocumentQuery(BaseModel):
    """Which document."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(description="A path below documents/, exactly as in the archive.", examples=["7/invoice.pdf"])


class TableOut(BaseModel):
    """A table with its number of rows and its size as COPY text."""

    schema_name: str = Field(serialization_alias="schema")
    name: str
    rows: int
    bytes: int


class CountsOut(BaseModel):
    """The number of documents and their total size."""

    model_config = ConfigDict(from_attributes=True)

    files: int
    folders: int
    symlinks: int
    bytes: int


class ContentsOut(BaseModel):
    """What is inside an archive. `documents_url` lists the documents."""

    backup_id: UUID
    tables: list[TableOut]
    rows: int
    table_bytes: int
    documents: CountsOut
    documents_url: str

    @classmethod
    def of(cls, found: Contents, documents_url: str) -> ContentsOut:
        """Build the JSON of a manifest's figures."""
        tables = [
            TableOut(schema_name=table.schema, name=table.name, rows=table.rows, bytes=table.bytes) for table in found.tables
        ]
        return cls(
            backup_id=found.backup.id,
            tables=tables,
            rows=found.rows,
            table_bytes=found.table_bytes,
            documents=CountsOut.model_validate(found.documents),
            documents_url=documents_url,
        )


class EntryOut(BaseModel):
    """A document, a symlink, or a folder with the number and total size of all documents below it.

    `url` leads to a document's content or a folder's list. It is exact even if `path` is not, which shows bytes that are not
    UTF-8 as backslash escapes.
    """

    path: str
    name: str
    kind: Literal["file", "folder", "symlink"]
    size_bytes: int
    documents: int
    modified_at: datetime | None
    sha256: str | None
    target: str | None
    url: str | None


class DocumentsOut(BaseModel):
    """A page of a folder, folders first, or of the matches of a search below it."""

    folder: str
    search: str
    items: list[EntryOut]
    page: int
    page_size: int
    total: int


def readable(text: str) -> str:
    """Replace surrogate escapes with backslash escapes, so that the text is valid Unicode."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
