"""An archive's figures as columns of its history row, the same whether it was just made or found by a rescan."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from app.engine.archive.manifest import Manifest
from app.engine.proof.check_archive import ArchiveCheck
from app.models import BackupHistory, utcnow


def figures(filename: str, manifest: Manifest, sha256: str, size_bytes: int) -> dict[str, Any]:
    """Return the row's columns for a published archive; SHA-256 and size are those of the file."""
    return {
        "filename": filename,
        "size_bytes": size_bytes,
        "sha256": sha256,
        "started_at": manifest.started_at,
        "finished_at": manifest.finished_at,
        "warnings": list(manifest.warnings),
        "summary": summary(manifest),
        "bytes_done": size_bytes,
        "bytes_total": size_bytes,
    }


def of_upload(check: ArchiveCheck, moment: datetime) -> dict[str, Any]:
    """Return the row's columns for a checked archive from elsewhere: pinned, and with what is known of its origin, but
    without the file's name."""
    manifest = check.manifest
    return {
        "kind": "uploaded",
        "pinned": True,
        "origin": "own" if check.signed else "other_key" if check.ours else "foreign",
        "size_bytes": check.size_bytes,
        "bytes_done": check.size_bytes,
        "bytes_total": check.size_bytes,
        "sha256": check.sha256,
        "summary": summary(manifest) if manifest else _counts(check),
        "warnings": list(manifest.warnings) if manifest else [],
        "started_at": manifest.started_at if manifest else moment,
        "finished_at": manifest.finished_at if manifest else moment,
        "created_at": moment,
        "verified_at": utcnow(),
        "notified_at": utcnow(),
    }


def summary(manifest: Manifest) -> dict[str, Any]:
    """Summarise a manifest for lists and pages."""
    return {
        "tables": len(manifest.tables),
        "rows": sum(table.rows for table in manifest.tables),
        "documents": manifest.documents.count,
        "documents_bytes": manifest.documents.bytes,
        "server_version": manifest.server_version,
    }


def _counts(check: ArchiveCheck) -> dict[str, Any]:
    return {
        "tables": check.tables,
        "rows": check.rows,
        "documents": check.documents,
        "documents_bytes": check.documents_bytes,
        "server_version": check.server_version,
    }


def remembered(row: BackupHistory) -> dict[str, Any]:
    """Return what the audit log keeps of a backup that is about to be deleted, for the charts of past days."""
    moments = {name: getattr(row, name) for name in ("started_at", "finished_at", "restore_tested_at")}
    known = {name: moment.isoformat() for name, moment in moments.items() if moment is not None}
    return known | {
        "filename": row.filename,
        "status": row.status,
        "kind": row.kind,
        "size_bytes": row.size_bytes or 0,
        "warnings": len(row.warnings),
        "stored_at": (row.created_at if row.kind == "uploaded" else row.finished_at or row.created_at).isoformat(),
    }
