"""Restores and their previews as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from app.cli.formats import moment, size
from app.engine.restore.preview.findings import Preview
from app.engine.restore.preview.tables_diff import TableDiff
from app.models import Restore
from app.services.restores.restores import RestorePreview, progress


def preview_lines(found: RestorePreview) -> list[str]:
    """Format what a restore would change, one fact a line."""
    diff = found.diff
    return [*diff_lines(diff), *_times(found), *troubles(found.blockers, found.warnings, diff.code)]


def diff_lines(diff: Preview) -> list[str]:
    """Format the tables and documents of the engine's preview, leaving out unchanged tables."""
    about = "" if diff.exact else "≈"
    lines = []
    for table in diff.tables:
        changes = list(_changes(table))
        if table.rows_now != table.rows_backup or changes:
            rows = f"{about}{_rows(table.rows_now)} now, {_rows(table.rows_backup)} in the backup"
            lines.append("; ".join([f"table     {table.schema}.{table.name}: {rows}", *changes]))
    same = sum(table.rows_now == table.rows_backup for table in diff.tables)
    lines.append(f"tables    {same} of {len(diff.tables)} with {about}as many rows as in the backup")
    identical = sum(table.rows is not None and table.rows.is_same for table in diff.tables)
    if identical:
        lines.append(f"tables    {identical} of {len(diff.tables)} with the same rows as in the backup")
    if diff.documents:
        files = diff.documents
        lines.append(f"documents {about}{files.files_now} now, {files.files_backup} in the backup")
        if files.added is not None:
            lines.append(f"documents {files.added} come back, {files.changed} change, {files.lost} go")
    lines.append(f"disk      {size(diff.disk_needed_bytes)} needed, {size(diff.disk_free_bytes)} free")
    return lines


def troubles(blockers: list[str], warnings: list[str], code: list[str]) -> list[str]:
    """Format the warnings of a preview, one a line."""
    lines = [f"code      {text}" for text in code] + [f"warning   {text}" for text in warnings]
    return lines + [f"BLOCKER   {text}" for text in blockers]


def describe(row: Restore) -> str:
    """Format everything known about a restore, one fact a line."""
    result = row.result
    facts = {
        "id": row.id,
        "status": row.status,
        "backup": row.backup_id,
        "safety backup": row.safety_backup_id,
        "scope": row.scope,
        "started": moment(row.started_at),
        "finished": moment(row.finished_at),
        "gap": f"{result['gap_seconds']:.2f} s without the database" if "gap_seconds" in result else None,
        "undo until": moment(row.undo_until) if row.undo_until else None,
        "error": row.error,
    }
    lines = [f"{name + ':':<15}{value}" for name, value in facts.items() if value is not None]
    for table in result.get("tables", []):
        about = "≈" if table.get("approximate", True) and table["rows_before"] is not None else ""
        rows = f"{about}{_rows(table['rows_before'])}, now {_rows(table['rows_after'])}"
        lines.append(f"{table['schema']}.{table['name']}: {rows}")
    lines += [f"{'code:':<15}{text}" for text in result.get("code", [])]
    return "\n".join(lines + [f"{'warning:':<15}{warning}" for warning in row.warnings])


def progress_line(row: Restore) -> str:
    """Format the progress of an unfinished restore; the first word is the phase."""
    view = progress(row)
    percent = f" {view.percent:.0f} %" if view.percent is not None else ""
    return f"{view.phase or row.status}{percent} {size(view.bytes_done)}"


def _changes(table: TableDiff) -> Iterator[str]:
    """Describe the changes of a table's rows and columns."""
    if table.rows is not None and not table.rows.is_same:
        rows = table.rows
        yield f"{rows.added} rows come back, {rows.changed} change, {rows.lost} go"
    if table.columns_added:
        yield f"columns that come back: {', '.join(table.columns_added)}"
    if table.columns_lost:
        yield f"columns that go: {', '.join(table.columns_lost)}"


def _rows(count: int | None) -> str:
    return "missing" if count is None else f"{count} rows"


def _times(found: RestorePreview) -> list[str]:
    lines = []
    if found.restore_seconds is not None:
        lines.append(f"time      about {found.restore_seconds:.0f} s, as the last restores took")
    if found.safety_backup_seconds is not None:
        lines.append(f"time      about {found.safety_backup_seconds:.0f} s for the safety backup")
    return lines
