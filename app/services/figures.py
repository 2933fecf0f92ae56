"""An archive's figures as columns of its history row: the same whether the backup was just made or found again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app import engine


def figures(path: Path, manifest: engine.Manifest, sha256: str, size_bytes: int) -> dict[str, Any]:
    """Given a published archive, its manifest, the SHA-256 and the size of the file, return the row's columns."""
    return {
        "filename": path.name,
        "size_bytes": size_bytes,
        "sha256": sha256,
        "started_at": manifest.started_at,
        "finished_at": manifest.finished_at,
        "warnings": list(manifest.warnings),
        "summary": summary(manifest),
        "bytes_done": size_bytes,
        "bytes_total": size_bytes,
    }


def summary(manifest: engine.Manifest) -> dict[str, Any]:
    """Given a manifest, return what a list or a page says of its contents."""
    return {
        "tables": len(manifest.tables),
        "rows": sum(table.rows for table in manifest.tables),
        "documents": manifest.documents.count,
        "documents_bytes": manifest.documents.bytes,
        "server_version": manifest.server_version,
    }
