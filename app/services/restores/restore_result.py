"""What a restore did, as its row keeps it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from app.engine.restore.preview.tables_diff import TableDiff
from app.engine.restore.restore import RestoreResult
from app.services.restores.safety_backup import Counts


def as_json(result: RestoreResult, counted: Counts | None) -> dict[str, Any]:
    """Return the result with the rows that the safety backup counted before; `counted` is None if there was none."""
    figures = asdict(result)
    for name in ("tables", "warnings", "finished_at"):
        del figures[name]
    return figures | {"tables": [_table(table, counted) for table in result.tables]}


def _table(table: TableDiff, counted: Counts | None) -> dict[str, Any]:
    """The rows before are those that the safety backup counted, else the server's estimate, which is marked as such."""
    name = (table.schema, table.name)
    rows_before = (counted or {}).get(name, table.rows_now)
    was_not_there = counted is not None and rows_before is None
    exact = was_not_there or name in (counted or {})
    return {
        "schema": table.schema,
        "name": table.name,
        "rows_before": rows_before,
        "rows_after": table.rows_backup,
        "approximate": not exact,
    }
